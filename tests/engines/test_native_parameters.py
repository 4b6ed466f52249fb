"""llama-server's flags on the embedded llama.cpp: what is set, what is refused, and why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xllamacpp
from hypothesis import given, settings
from hypothesis import strategies as st
from xllamacpp import CommonParams

from runner.engines.flag_help import HelpFlag, captured_help, help_flags
from runner.engines.flags import Takes
from runner.engines.llamacpp_fields import FIELDS
from runner.engines.llamacpp_flags import flag_rules
from runner.engines.native_chat import CHAT
from runner.engines.native_compute import COMPUTE
from runner.engines.native_parameters import REFUSED, apply, handled_by, refused_for
from runner.errors import BadInput
from tests.engines.test_llamacpp import BASE, OPTION_CASES

FLAGS = help_flags(captured_help("llama.cpp"))

CONTAINER_ONLY = {
    *("--device", "--override-kv", "--top-nsigma", "--dry-sequence-breaker", "--logit-bias"),
    *("--sampler-seq", "--spm-infill", "--control-vector-layer-range"),
    "--defrag-thold",  # does nothing in the container either
}
"""What a user may pass to the container, and the embedded llama.cpp has no way to take."""


def applied(*arguments: str) -> CommonParams:
    parameters = CommonParams()
    apply(arguments, parameters, captured_help("llama.cpp"))
    return parameters


def has(field: str) -> bool:
    holder = CommonParams()
    for part in field.split("."):
        if not hasattr(holder, part):
            return False
        holder = getattr(holder, part)
    return True


@pytest.mark.parametrize("flag", FLAGS, ids=lambda flag: flag.names[-1])
def test_every_flag_is_applied_or_refused(flag: HelpFlag) -> None:
    name = handled_by(flag)
    if refused_for(flag):
        values = ("1",) * int(flag.takes)
        with pytest.raises(BadInput, match="can't be used: "):
            applied(flag.names[0], *values)
        return
    field = next((field for field, one in FIELDS.items() if one == name), "")
    assert name in {**COMPUTE, **CHAT} or has(field)


def test_the_container_and_the_embedded_take_the_same_flags_but_for_these() -> None:
    rules = flag_rules()
    users = [flag for flag in FLAGS if not {*rules.own, *rules.dangerous} & {*flag.names}]
    refused = {name for flag in users if refused_for(flag) for name in flag.names}
    assert refused & set(REFUSED) == CONTAINER_ONLY
    assert len(users) > 150


@pytest.mark.parametrize(("options", "arguments"), OPTION_CASES)
def test_all_that_the_runner_itself_passes_is_applied(
    options: dict[str, Any], arguments: tuple[str, ...]
) -> None:
    set_to = applied(*BASE, *arguments)
    assert (set_to.model.path, set_to.n_ctx) == ("/model/model.gguf", 2048)
    assert (set_to.use_jinja, set_to.endpoint_metrics, set_to.ui) == (True, True, False)


def test_nothing_is_refused_that_does_not_exist() -> None:
    known = flag_rules().known
    assert [name for name in (*REFUSED, *COMPUTE, *CHAT) if name not in known] == []


@pytest.mark.parametrize(
    ("arguments", "value", "wanted"),
    [
        (("--threads", "3"), lambda to: to.cpuparams.n_threads, 3),
        (("-np", "2"), lambda to: to.n_parallel, 2),
        (("--ctx-size", "0"), lambda to: to.fit_params_min_ctx, -1),
        (("--temp", "0.5"), lambda to: to.sampling.temp, 0.5),
        (("--no-warmup",), lambda to: to.warmup, False),
        (("--kv-unified",), lambda to: to.kv_unified, True),
        (("-no-kvu",), lambda to: to.kv_unified, False),
        (("--no-kv-offload",), lambda to: to.no_kv_offload, True),
        (("-nkvo",), lambda to: to.no_kv_offload, True),
        (("-nkvo", "-kvo"), lambda to: to.no_kv_offload, False),
        (("--no-repack",), lambda to: to.no_extra_bufts, True),
        (("--no-host",), lambda to: to.no_host, True),
        (("--mmproj-auto",), lambda to: to.no_mmproj, False),
        (("--no-mmproj",), lambda to: to.no_mmproj, True),
        (("--no-perf",), lambda to: (to.no_perf, to.sampling.no_perf), (True, True)),
        (("--fit", "off"), lambda to: to.fit_params, False),
        (("--fit-target", "512"), lambda to: set(to.fit_params_target), {512 * 2**20}),
        (("--fit-target", "1,2"), lambda to: to.fit_params_target[:3], [2**20, 2**21, 2**30]),
        (("--cpu-strict", "1"), lambda to: to.cpuparams.strict_cpu, True),
        (("--prio", "-1"), lambda to: int(to.cpuparams.priority), -1),
        (("--split-mode", "row"), lambda to: to.split_mode.name, "LLAMA_SPLIT_MODE_ROW"),
        (("--tensor-split", "3,1"), lambda to: to.tensor_split[:3], [3.0, 1.0, 0.0]),
        (("--rope-scale", "4"), lambda to: to.rope_freq_scale, 0.25),
        (
            ("--rope-scaling", "yarn"),
            lambda to: to.rope_scaling_type.name,
            "LLAMA_ROPE_SCALING_TYPE_YARN",
        ),
        (("--load-mode", "mmap+mlock"), lambda to: to.load_mode.name, "LLAMA_LOAD_MODE_MMAP_MLOCK"),
        (("--load-mode", "mlock"), lambda to: to.load_mode.name, "LLAMA_LOAD_MODE_MLOCK"),
        (("-fa", "on"), lambda to: to.flash_attn_type.name, "LLAMA_FLASH_ATTN_TYPE_ENABLED"),
        (("-fa", "auto"), lambda to: to.flash_attn_type.name, "LLAMA_FLASH_ATTN_TYPE_AUTO"),
        (("-ctk", "q8_0"), lambda to: to.cache_type_k.name, "GGML_TYPE_Q8_0"),
        (("-ctvd", "bf16"), lambda to: to.speculative.draft.cache_type_v.name, "GGML_TYPE_BF16"),
        (("-ngl", "all"), lambda to: to.n_gpu_layers, -2),
        (("-ngl", "auto"), lambda to: to.n_gpu_layers, -1),
        (("-ngl", "0"), lambda to: to.n_gpu_layers, 0),
        (("-ngld", "7"), lambda to: to.speculative.draft.n_gpu_layers, 7),
        (
            ("--n-cpu-moe", "2", "--override-tensor", "x=CPU"),
            lambda to: to.tensor_buft_overrides,
            r"blk\.0\.ffn_(up|down|gate|gate_up)_(ch|)exps=CPU,"
            r"blk\.1\.ffn_(up|down|gate|gate_up)_(ch|)exps=CPU,x=CPU",
        ),
        (("-C", "0x5"), lambda to: to.cpuparams.cpumask[:4], [True, False, True, False]),
        (("-Cr", "1-2"), lambda to: to.cpuparams.cpumask[:4], [False, True, True, False]),
        (("-C", "1", "-Cr", "2-2"), lambda to: to.cpuparams.cpumask[:3], [True, False, True]),
        (("-Cr", "1-"), lambda to: to.cpuparams.cpumask.count(True), 511),
        (("-C", "1"), lambda to: to.cpuparams.mask_valid, True),
        (
            ("--lora", '/a,"/b,c"', "--lora-scaled", "/d:0.5"),
            lambda to: [(one.path, one.scale) for one in to.lora_adapters],
            [("/a", 1.0), ("/b,c", 1.0), ("/d", 0.5)],
        ),
        (("--grammar", 'root ::= "a"'), lambda to: to.sampling.grammar.grammar, 'root ::= "a"'),
        (
            ("--json-schema", '{"type": "object"}'),
            lambda to: to.sampling.grammar.type.name,
            "COMMON_GRAMMAR_TYPE_OUTPUT_FORMAT",
        ),
        (
            ("--chat-template-kwargs", '{"a": [1]}', "--reasoning", "off"),
            lambda to: to.default_template_kwargs,
            {"a": "[1]", "enable_thinking": "false", "preserve_reasoning": "true"},
        ),
        (
            ("--no-reasoning-preserve", "--reasoning-effort", "low"),
            lambda to: to.default_template_kwargs,
            {"preserve_reasoning": "false", "reasoning_effort": '"low"'},
        ),
        (
            ("--reasoning-format", "deepseek-legacy"),
            lambda to: to.reasoning_format.name,
            "COMMON_REASONING_FORMAT_DEEPSEEK_LEGACY",
        ),
        (("--reasoning-budget", "0"), lambda to: to.sampling.reasoning_budget_tokens, 0),
        (("--samplers", "top_k;temperature"), lambda to: to.sampling.samplers, "top_k;temperature"),
        (("--seed", "-1"), lambda to: to.sampling.seed, 2**32 - 1),
        (("-r", "a", "-r", "b,c"), lambda to: to.antiprompt, ["a", "b,c"]),
        (("--timeout", "9"), lambda to: (to.timeout_read, to.timeout_write), (9, 9)),
        (("--repeat-last-n", "128"), lambda to: to.sampling.n_prev, 128),
        (("--alias", "a, b"), lambda to: to.model_alias, {"a", "b"}),
        (("--host", "a.sock"), lambda to: to.hostnames, ["a.sock"]),
        (("--rerank",), lambda to: to.pooling_type.name, "LLAMA_POOLING_TYPE_RANK"),
        (("--verbose",), lambda to: to.verbosity, 2**31 - 1),
        (("--spec-synth-rates", "0.5,0.25"), lambda to: to.speculative.synth_rates, [0.5, 0.25]),
        (("--spec-default",), lambda to: to.speculative.ngram_mod.n_match, 24),
        (
            ("--spec-type", "draft-simple,ngram-mod"),
            lambda to: [kind.name[24:] for kind in to.speculative.types],
            ["NONE", "DRAFT_SIMPLE", "NGRAM_MOD"],
        ),
    ],
)
def test_what_flags_set(
    arguments: tuple[str, ...], value: Callable[[CommonParams], Any], wanted: object
) -> None:
    assert value(applied(*arguments)) == wanted


def test_files_are_read_where_a_flag_names_one(tmp_path: Path) -> None:
    template, grammar = tmp_path / "t.jinja", tmp_path / "g.gbnf"
    template.write_text("{{ messages }}", encoding="utf-8")
    grammar.write_text('root ::= "a"', encoding="utf-8")
    parameters = applied("--chat-template-file", str(template), "--grammar-file", str(grammar))
    assert parameters.chat_template == "{{ messages }}"
    assert parameters.sampling.grammar.grammar == 'root ::= "a"'


@pytest.mark.parametrize(
    ("flag", "bit"), [("--top-k", "TOP_K"), ("--temp", "TEMP"), ("--mirostat-ent", "MIROSTAT_TAU")]
)
def test_a_sampler_that_was_set_outweighs_the_models_own_advice(flag: str, bit: str) -> None:
    bits = xllamacpp.common_params_sampling_config
    wanted = int(bits[f"COMMON_PARAMS_SAMPLING_CONFIG_{bit}"])
    assert applied().sampling.user_sampling_config == 0
    assert applied(flag, "1").sampling.user_sampling_config == wanted


@pytest.mark.parametrize(
    "arguments",
    [
        ("--threads", "many"),
        ("--temp", "warm"),
        ("--fit", "perhaps"),
        ("--split-mode", "odd"),
        ("--cache-type-k", "q2_k"),
        ("--parallel", "0"),
        ("--rope-scale", "0"),
        ("--n-cpu-moe", "-1"),
        ("--override-tensor", "x"),
        ("--override-tensor", "x=NoSuchDevice"),
        ("--cpu-mask", "zz"),
        ("--cpu-mask", "f" * 200),
        ("--cpu-range", "3"),
        ("--cpu-range", "3-1"),
        ("--cpu-range", "0-512"),
        ("--tensor-split", ",".join(["1"] * 200)),
        ("--lora-scaled", "/a"),
        ("--lora", "a\rb"),
        ("--json-schema", "{"),
        ("--chat-template-kwargs", "[1]"),
        ("--chat-template-file", "/no/such/file"),
        ("--samplers", "top_k;odd"),
        ("--spec-type", "odd"),
        ("--reasoning-budget", "-2"),
        ("--repeat-last-n", "-1"),
        ("--threads", str(2**40)),
    ],
)
def test_what_a_flag_does_not_take_is_refused_by_its_name(arguments: tuple[str, ...]) -> None:
    with pytest.raises(BadInput, match=arguments[0]):
        applied(*arguments)


def test_two_values_are_counted() -> None:
    assert flag_rules().known["--control-vector-layer-range"] is Takes.TWO


SINGLE = [flag.names[-1] for flag in FLAGS if flag.takes is Takes.ONE and not refused_for(flag)]
VALUES = st.one_of(
    st.text(max_size=6),
    st.from_regex(r"-?[0-9]{1,20}(\.[0-9])?", fullmatch=True),
    st.sampled_from(["", ",", "=", "a=b", "a=CPU,", "nan", "inf", "1e999", "{}", "[]", '"', "0x"]),
)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(SINGLE), VALUES)
def test_any_value_is_set_or_refused_by_name(flag: str, value: str) -> None:
    try:
        applied(f"{flag}={value}")
    except BadInput as refused:
        assert flag in refused.message

"""Which of vLLM's flags and variables a user may set, against the captured help."""

from __future__ import annotations

import pytest

from runner.engines.environment import COMMON_RULES, Outcome, settle
from runner.engines.flag_help import captured_help
from runner.engines.flag_names import named, routed
from runner.engines.flags import Takes, checked
from runner.engines.vllm_flags import (
    DANGEROUS,
    ENVIRONMENT,
    GONE,
    OPTIONS,
    OWN,
    flag_rules,
)
from runner.errors import BadInput


def test_the_tables_name_flags_of_the_pinned_version() -> None:
    known = set(flag_rules().known)
    assert len(known) > 400
    assert known >= {*OWN, *DANGEROUS, *OPTIONS}
    assert known.isdisjoint(GONE)


def test_the_help_tells_where_it_comes_from() -> None:
    first, second, *_ = captured_help("vllm").splitlines()
    assert "vllm 0.32.0" in first
    assert "--help=all" in first + second


@pytest.mark.parametrize(
    ("flag", "takes"),
    [
        ("--enforce-eager", Takes.NOTHING),
        ("--no-enable-prefix-caching", Takes.NOTHING),
        ("--max-num-seqs", Takes.ONE),
        ("-tp", Takes.ONE),
        ("--served-model-name", Takes.MANY),
        ("--cudagraph-capture-sizes", Takes.MANY),
        ("--hf-token", Takes.MAYBE),
    ],
)
def test_the_help_tells_what_a_flag_takes(flag: str, takes: Takes) -> None:
    assert Takes(flag_rules().known[flag]) is takes


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        (["--max-num-seqs", "4"], ("--max-num-seqs", "4")),
        (["--max_num_seqs=4"], ("--max-num-seqs", "4")),
        (["-tp", "2"], ("-tp", "2")),
        (["--no-enable-prefix-caching"], ("--no-enable-prefix-caching",)),
        (
            ["--kernel_config.enable_jit_warmup", "false"],
            ("--kernel-config.enable_jit_warmup", "false"),
        ),
    ],
)
def test_flags_pass_through(given: list[str], passed: tuple[str, ...]) -> None:
    assert checked(given, flag_rules()) == passed


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--model", "/etc"], "set by the runner itself"),
        (["--uds=/x"], "set by the runner itself"),
        (["--api-key", "x"], "only the gateway checks keys"),
        (["--served_model_name", "x"], "the names are the model's"),
        (["--middleware", "x.y"], "refused"),
        (["-dpa", "10.0.0.1"], "refused"),
        (["--structured-outputs-config", '{"reasoning_parser_plugin": "/x.py"}'], "refused"),
        (["--structured_outputs_config.reasoning_parser_plugin", "/x.py"], "refused"),
        (["--trust-remote-code"], "trust_remote_code"),
        (["--allowed-local-media-path", "/"], "refused"),
        (["--use-v2-block-manager"], "--use-v2-block-manager"),
        (["--max-num-seq", "4"], "no flag of this engine"),
        (["--max-num-seqs"], "needs a value"),
    ],
)
def test_flags_are_refused_with_the_reason(given: list[str], told: str) -> None:
    with pytest.raises(BadInput) as refused:
        checked(given, flag_rules())
    assert told in refused.value.message
    assert refused.value.hint


def test_an_operator_can_allow_a_dangerous_one() -> None:
    allowed = frozenset({"--middleware"})
    assert checked(["--middleware", "x.y"], flag_rules(), allowed=allowed) == (
        "--middleware",
        "x.y",
    )


@pytest.mark.parametrize(
    ("names", "flags", "options"),
    [
        ({"n_ctx": "512"}, (), {"context_size": "512"}),
        ({"max_model_len": "512"}, (), {"context_size": "512"}),
        ({"n_parallel": "4"}, (), {"parallel": "4"}),
        ({"enable_prefix_caching": "false"}, ("--no-enable-prefix-caching",), {}),
        ({"block_size": "32"}, ("--block-size", "32"), {}),
    ],
)
def test_names_stand_for_flags_and_options(
    names: dict[str, str], flags: tuple[str, ...], options: dict[str, str]
) -> None:
    found = named(names, flag_rules())
    assert (found.flags, found.options) == (flags, options)


def test_layers_on_the_gpu_are_not_a_thing_of_vllm() -> None:
    with pytest.raises(BadInput, match="cpu_offload_gb"):
        named({"n_gpu_layers": "-1"}, flag_rules())


def test_a_flag_of_the_runners_own_may_set_its_option() -> None:
    found = routed(["--max-model-len", "512", "--block-size", "32"], flag_rules())
    assert found.options == {"context_size": "512"}
    assert found.flags == ("--block-size", "32")


def test_every_variable_has_its_fate() -> None:
    given = {
        "HF_HUB_OFFLINE": "0",
        "VLLM_API_KEY": "secret",
        "CUDA_VISIBLE_DEVICES": "0",
        "LD_PRELOAD": "/x.so",
        "VLLM_PLUGINS": "x",
        "VLLM_CPU_KVCACHE_SPACE": "4",
        "NCCL_SOCKET_IFNAME": "eth0",
        "VLLM_LOGGING_LEVEL": "DEBUG",
    }
    done = settle(given, (*ENVIRONMENT, *COMMON_RULES), own={})
    fates = {fate.name: fate.outcome for fate in done.fates}
    assert fates == {
        "HF_HUB_OFFLINE": Outcome.OVERRIDDEN,
        "VLLM_API_KEY": Outcome.DROPPED,
        "CUDA_VISIBLE_DEVICES": Outcome.DROPPED,
        "LD_PRELOAD": Outcome.DROPPED,
        "VLLM_PLUGINS": Outcome.DROPPED,
        "VLLM_CPU_KVCACHE_SPACE": Outcome.KEPT,
        "NCCL_SOCKET_IFNAME": Outcome.KEPT,
        "VLLM_LOGGING_LEVEL": Outcome.KEPT,
    }
    assert done.environment["HF_HUB_OFFLINE"] == "1"
    assert done.environment["GLOO_SOCKET_IFNAME"] == "lo"
    assert all(fate.reason for fate in done.fates if fate.outcome is not Outcome.KEPT)

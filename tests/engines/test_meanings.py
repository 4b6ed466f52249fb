"""Ways of saying one thing, seen as one."""

from __future__ import annotations

import pytest

from runner.engines import llamacpp_flags, mlx, transformers, vllm_flags
from runner.engines.configured import Configured
from runner.engines.flags import FlagRules, Inverse, Switched
from runner.engines.meanings import (
    Claim,
    Reader,
    every_meaning,
    of_all,
    of_flag,
    of_flags,
    of_parameter,
    stacked,
    without,
)
from runner.engines.options import Options, Switch

HELP = """\
-t,    --threads N                      number of threads
-n,    --predict, --n-predict N         number of tokens
-ncmoe, --n-cpu-moe N                   layers
--mmproj-auto, --no-mmproj-auto         whether to
"""
RULES = FlagRules(
    known={"--threads": True, "--fast": False, "--no-fast": False, "--many": True, "--n-ctx": True},
    nested={
        "n_threads": "--threads",
        "no_mmap": Inverse("mmap"),
        "flash": Switched("flash_attention"),
        "many": "--many",
        "layers": "gpu_layers",
    },
    options={"--fast-size": "context_size"},
)


def test_every_spelling_of_a_help_has_one_meaning() -> None:
    found = every_meaning(HELP, {"--n-cpu-moe": ("cpu_moe_layers", "threads")})
    assert found["-t"] == found["--threads"] == {"threads"}
    assert found["-n"] == found["--predict"] == found["--n-predict"]
    assert found["-ncmoe"] == {"cpu_moe_layers", "threads"}
    assert found["--no-mmproj-auto"] == found["--mmproj-auto"]
    assert len({found["-n"], found["--mmproj-auto"], found["-t"]}) == 3


@pytest.mark.parametrize(
    ("flag", "meaning"),
    [
        ("--threads", "threads"),
        ("--n_ctx", "context_size"),
        ("--fast-size", "context_size"),
        ("--no-fast", "--fast"),
        ("--fast", "--fast"),
        ("--unknown", "--unknown"),
    ],
)
def test_a_flag_says_an_option_or_itself(flag: str, meaning: str) -> None:
    assert of_flag(flag, RULES) == {meaning}


@pytest.mark.parametrize(
    ("name", "meanings"),
    [
        ("n-threads", {"threads"}),
        ("no_mmap", {"mmap"}),
        ("flash", {"flash_attention"}),
        ("many", {"--many"}),
        ("layers", {"gpu_layers"}),
        ("unknown", set()),
    ],
)
def test_a_parameter_says_what_its_target_says(name: str, meanings: set[str]) -> None:
    assert of_parameter(name, RULES) == meanings


def test_shipped_engines_know_their_flags_of_other_names() -> None:
    rules = llamacpp_flags.flag_rules()
    assert of_flag("-fa", rules) == {"flash_attention"}
    assert of_flag("--load-mode", rules) == {"mmap", "memory_lock"}
    assert of_flag("-ngl", rules) == of_flag("--n-gpu-layers", rules) == {"gpu_layers"}
    assert of_flag("-ctk", rules) == {"cache_type_k"}
    assert of_flag("--max-num-seqs", vllm_flags.flag_rules()) == {"parallel"}


def test_each_flag_of_llama_cpp_that_is_an_options_own_says_that_option() -> None:
    from runner.engines.llamacpp import _FLAGS

    rules = llamacpp_flags.flag_rules()
    assert {name: of_flag(flag, rules) for name, flag in _FLAGS.items()} == {
        name: {name} for name in _FLAGS
    }


def test_flags_are_claims_with_what_they_say() -> None:
    claims = of_flags(["--no-fast", "--threads", "4"], (Reader(FlagRules({})), Reader(RULES)))
    assert claims == (
        Claim(frozenset({"--fast"}), "false", "--no-fast"),
        Claim(frozenset({"threads"}), "4", "--threads"),
    )
    assert of_flags(["--unknown"], (Reader(RULES),)) == ()
    allowing = Reader(RULES, frozenset({"--unknown"}))
    assert [claim.shown for claim in of_flags(["--unknown", "--fast"], (allowing,))] == [
        "--unknown",
        "--fast",
    ]


def test_what_differs_contradicts() -> None:
    def claim(text: str | None, *meanings: str) -> Claim:
        return Claim(frozenset(meanings or {"a"}), text, "a")

    assert claim("1").contradicts(claim("2"))
    assert claim(None).contradicts(claim("2"))
    assert claim("on").contradicts(claim("off", "a", "b"))
    assert not claim("1").contradicts(claim("2", "b"))
    assert not claim("2").contradicts(claim("2.0"))
    assert not claim("ON").contradicts(claim("on"))
    assert not claim(None).contradicts(claim(None))


def test_without_leaves_the_rest_as_it_was() -> None:
    readers = (Reader(RULES),)
    flags = ("--many=-1", "--fast")
    full = Configured(
        Options(threads=1, seed=2), {"no_mmap": "true", "many": "1"}, flags, {"A": ""}
    )
    assert of_all(full, readers) == {"threads", "seed", "mmap", "--many", "--fast"}
    assert without(full, {"dtype"}, readers) == full
    assert without(full, {"threads", "mmap", "--fast"}, readers) == Configured(
        Options(seed=2), {"many": "1"}, ("--many", "-1"), {"A": ""}
    )
    odd = Configured(flags=("--unknown",))
    assert without(odd, {"--unknown"}, readers) == odd


@pytest.mark.parametrize(
    ("rules", "flag", "options"),
    [
        (llamacpp_flags.flag_rules(), "--load-mode", {"mmap", "memory_lock"}),
        (vllm_flags.flag_rules(), "-tp", {"tensor_parallel_size"}),
        (vllm_flags.flag_rules(), "--max-num-seqs", {"parallel"}),
        (vllm_flags.flag_rules(), "--max-num-batched-tokens", {"batch_size", "max_batched_tokens"}),
        (vllm_flags.flag_rules(), "--safetensors-load-strategy", {"mmap"}),
        (vllm_flags.flag_rules(), "--tool-call-parser", {"tool_parser"}),
        (transformers.flag_rules(), "--default-seed", {"seed"}),
        (transformers.flag_rules(), "--attn-implementation", {"flash_attention"}),
        (transformers.flag_rules(), "--reasoning", {"reasoning_budget"}),
        (transformers.flag_rules(), "--cb-max-memory-percent", {"gpu_memory_utilization"}),
        (mlx.flag_rules(), "--decode-concurrency", {"parallel"}),
        (mlx.flag_rules(), "--prefill-step-size", {"batch_size"}),
        (mlx.flag_rules(), "--num-draft-tokens", {"draft_tokens"}),
        (mlx.flag_rules(), "--kv-bits", {"kv_cache_dtype"}),
    ],
)
def test_flags_named_unlike_their_options(rules: FlagRules, flag: str, options: set[str]) -> None:
    assert flag in rules.known or any(flag in names for names in rules.says)
    assert of_flag(flag, rules) == options


def test_what_lies_lower_gives_way_however_it_was_written() -> None:
    readers = (Reader(llamacpp_flags.flag_rules()),)
    for_any = Configured(flags=("-fa", "off", "--top-k", "4"))
    for_it = Configured(Options(flash_attention=Switch.ON))
    done = stacked([for_it, for_any], readers)
    assert done.options.flash_attention is Switch.ON
    assert done.flags == ("--top-k", "4")
    assert stacked([for_any, for_it], readers) == for_any
    assert stacked([], readers) == Configured()

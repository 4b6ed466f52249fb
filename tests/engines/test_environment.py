"""What becomes of a user's environment variables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.engines.environment import (
    COMMON_RULES,
    NATIVE_RULES,
    EnvironmentRule,
    Fate,
    Outcome,
    Policy,
    redacted,
    settle,
    shown,
)
from runner.errors import BadInput

RULES = (
    EnvironmentRule("OFFLINE", Policy.FORCED, "engines have no network", "1"),
    EnvironmentRule("CACHE_GB", Policy.DEFAULT, "the memory is counted", "4"),
    EnvironmentRule("ENGINE_ALLOWED_TOKEN", Policy.DEFAULT, "it is the engine's own", ""),
    EnvironmentRule("ENGINE_*", Policy.FORBIDDEN, "use flags"),
    *COMMON_RULES,
)
OWN = {"HOME": "/cache", "CUDA_VISIBLE_DEVICES": "0"}
ALWAYS = {"OFFLINE": "1", "CACHE_GB": "4", "ENGINE_ALLOWED_TOKEN": "", **OWN}


@pytest.mark.parametrize(
    ("user", "given", "outcome", "shown_value", "reason"),
    [
        ({"OMP_NUM_THREADS": "2"}, {"OMP_NUM_THREADS": "2"}, Outcome.KEPT, "2", ""),
        ({"CACHE_GB": "8"}, {"CACHE_GB": "8"}, Outcome.KEPT, "8", ""),
        ({"OFFLINE": "0"}, {}, Outcome.OVERRIDDEN, "1", "engines have no network"),
        ({"OFFLINE": "1"}, {}, Outcome.KEPT, "1", ""),
        ({"ENGINE_PORT": "1"}, {}, Outcome.DROPPED, "", "use flags"),
        ({"engine_port": "1"}, {}, Outcome.DROPPED, "", "use flags"),
        ({"HOME": "/root"}, {}, Outcome.OVERRIDDEN, "/cache", "folders of its own"),
        ({"CUDA_VISIBLE_DEVICES": "1"}, {}, Outcome.OVERRIDDEN, "0", "`gpus` says"),
        ({"HIP_VISIBLE_DEVICES": "1"}, {}, Outcome.DROPPED, "", "`gpus` says"),
        ({"LD_PRELOAD": "/x.so"}, {}, Outcome.DROPPED, "", "other code"),
        ({"LD_AUDIT": "/x.so"}, {}, Outcome.DROPPED, "", "other code"),
        ({"DYLD_INSERT_LIBRARIES": "/x"}, {}, Outcome.DROPPED, "", "other code"),
        ({"PYTHONSTARTUP": "/x.py"}, {}, Outcome.DROPPED, "", "other code"),
        ({"PYTHONINSPECT": "1"}, {}, Outcome.DROPPED, "", "other code"),
        ({"LD_DEBUG_OUTPUT": "/x"}, {}, Outcome.DROPPED, "", "load or write files"),
        ({"OPENSSL_CONF": "/x"}, {}, Outcome.DROPPED, "", "load or write files"),
        ({"VK_ADD_LAYER_PATH": "/x"}, {}, Outcome.DROPPED, "", "load or write files"),
        ({"LD_LIBRARY_PATH": "/x"}, {}, Outcome.DROPPED, "", "where its programs are"),
        ({"PATH": "/x"}, {}, Outcome.DROPPED, "", "where its programs are"),
        ({"PYTHONPATH": "/x"}, {}, Outcome.DROPPED, "", "where its programs are"),
        ({"VLLM_API_KEY": "s"}, {}, Outcome.DROPPED, "", "only the gateway"),
        ({"HF_TOKEN": "s"}, {}, Outcome.DROPPED, "", "the runner pulls models"),
        ({"https_proxy": "http://p"}, {}, Outcome.DROPPED, "", "no network"),
        ({"RUNNER_HOME": "/x"}, {}, Outcome.DROPPED, "", "the runner's own"),
        ({"DOCKER_HOST": "x"}, {}, Outcome.DROPPED, "", "never speak to Docker"),
        ({"NVIDIA_DRIVER_CAPABILITIES": "all"}, {}, Outcome.DROPPED, "", "launcher"),
        ({"NVIDIA_REQUIRE_CUDA": "cuda>=9"}, {}, Outcome.DROPPED, "", "launcher"),
        ({"NVIDIA_TF32_OVERRIDE": "0"}, {"NVIDIA_TF32_OVERRIDE": "0"}, Outcome.KEPT, "0", ""),
        ({"MY_SECRET": "s"}, {"MY_SECRET": "s"}, Outcome.KEPT, "***", ""),
        ({"ENGINE_ALLOWED_TOKEN": "s"}, {"ENGINE_ALLOWED_TOKEN": "s"}, Outcome.KEPT, "***", ""),
    ],
)
def test_fates(
    user: dict[str, str],
    given: dict[str, str],
    outcome: Outcome,
    shown_value: str,
    reason: str,
) -> None:
    settled = settle(user, RULES, OWN)
    assert settled.environment == ALWAYS | given
    (fate,) = settled.fates
    assert (fate.name, fate.outcome, fate.value) == (next(iter(user)), outcome, shown_value)
    assert reason in fate.reason
    assert bool(fate.reason) == bool(reason)


def test_a_fate_reads_as_a_line() -> None:
    lines = [
        str(Fate("A", Outcome.KEPT, "1", "")),
        str(Fate("A", Outcome.OVERRIDDEN, "2", "it must be")),
        str(Fate("A", Outcome.DROPPED, "", "it may not be")),
    ]
    assert lines == [
        "A=1: kept",
        "A: overridden by A=2, because it must be",
        "A: dropped, because it may not be",
    ]


def test_the_first_rule_for_a_name_counts() -> None:
    rules = (
        EnvironmentRule("A_B", Policy.DEFAULT, "first", "1"),
        EnvironmentRule("A_B", Policy.FORCED, "second", "2"),
        EnvironmentRule("A_*", Policy.FORBIDDEN, "third"),
    )
    assert settle({}, rules, {}).environment == {"A_B": "1"}
    assert settle({"A_B": "3"}, rules, {}).environment == {"A_B": "3"}


@pytest.mark.parametrize("rule", COMMON_RULES, ids=lambda rule: rule.pattern)
def test_each_common_rule_decides_what_it_names(rule: EnvironmentRule) -> None:
    """What is more exact stands before what is vaguer."""
    name = rule.pattern.replace("*", "X")
    (fate,) = settle({name: "1"}, COMMON_RULES, {}).fates
    assert (fate.outcome, fate.reason) == (Outcome.DROPPED, rule.reason)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("DYLD_VISIBLE_DEVICES", "other code"),
        ("DYLD_API_KEY", "other code"),
        ("DYLD_PROXY", "other code"),
        ("LD_LIBRARY_PATH", "where its programs are"),
        ("NVIDIA_VISIBLE_DEVICES", "`gpus` says"),
        ("NVIDIA_REQUIRE_VISIBLE_DEVICES", "`gpus` says"),
        ("LD_VISIBLE_DEVICES", "`gpus` says"),
        ("RUNNER_VISIBLE_DEVICES", "`gpus` says"),
        ("DOCKER_VISIBLE_DEVICES", "`gpus` says"),
        ("NVIDIA_REQUIRE_API_KEY", "launcher"),
        ("NVIDIA_REQUIRE_PROXY", "launcher"),
        ("RUNNER_API_KEY", "only the gateway"),
        ("DOCKER_API_KEYS", "only the gateway"),
        ("OPENSSL_API_KEY", "only the gateway"),
        ("RUNNER_PROXY", "no network"),
        ("DOCKER_HTTPS_PROXY", "no network"),
        ("OCL_ICD_PROXY", "no network"),
        ("HUGGINGFACE_API_KEY", "only the gateway"),
    ],
)
def test_of_two_common_rules_that_speak_of_a_name_the_first_counts(name: str, reason: str) -> None:
    (fate,) = settle({name: "1"}, COMMON_RULES, {}).fates
    assert fate.outcome is Outcome.DROPPED
    assert reason in fate.reason


@pytest.mark.parametrize(
    ("name", "is_kept"),
    [
        ("OMP_NUM_THREADS", True),
        ("KMP_BLOCKTIME", True),
        ("MKL_NUM_THREADS", True),
        ("GGML_CUDA_FORCE_MMQ", True),
        ("LLAMA_TRACE", True),
        ("MLX_DISABLE_COMPILE", True),
        ("HF_HUB_VERBOSITY", True),
        ("LC_ALL", True),
        ("KMP_STATS_FILE", False),
        ("KMP_CPUINFO_FILE", False),
        ("OMP_TOOL_LIBRARIES", False),
        ("LLAMA_API_KEY", False),
        ("GGML_VK_VISIBLE_DEVICES", False),
        ("HF_TOKEN", False),
        ("ANYTHING", False),
    ],
)
def test_a_native_process_gets_what_is_known_to_be_harmless(name: str, *, is_kept: bool) -> None:
    """What the common rules forbid stays forbidden."""
    (fate,) = settle({name: "1"}, (*COMMON_RULES, *NATIVE_RULES), {}).fates
    assert fate.outcome is (Outcome.KEPT if is_kept else Outcome.DROPPED)


@pytest.mark.parametrize(
    ("name", "is_secret"),
    [
        ("API_KEY", True),
        ("key", True),
        ("HF_TOKEN", True),
        ("DB_PASS", True),
        ("DB_PASSWORD", True),
        ("A_SECRET", True),
        ("MONKEY", False),
        ("TOKENIZERS_PARALLELISM", False),
        ("KEY_BYTES", False),
    ],
)
def test_secrets_are_not_shown(name: str, is_secret: bool) -> None:
    assert shown({name: "value"}) == {name: "***" if is_secret else "value"}
    assert redacted(name, "") == ""


@pytest.mark.parametrize(
    ("name", "value"), [("", "x"), ("A=B", "x"), ("A B", "x"), ("A\n", "x"), ("A", "x\0y")]
)
def test_what_no_environment_can_hold_is_refused(name: str, value: str) -> None:
    with pytest.raises(BadInput):
        settle({name: value}, RULES, OWN)


NAMES = st.one_of(
    st.sampled_from(["OFFLINE", "CACHE_GB", "HOME", "PATH", "ENGINE_X", "ROCR_VISIBLE_DEVICES"]),
    st.from_regex(r"[A-Z][A-Z_]{0,12}", fullmatch=True),
)


@given(st.dictionaries(NAMES, st.from_regex(r"[a-z0-9/]{0,6}", fullmatch=True), max_size=8))
def test_what_must_hold_whatever_a_user_sets(user: dict[str, str]) -> None:
    settled = settle(user, RULES, OWN)
    assert {name: settled.environment[name] for name in OWN} == OWN
    assert settled.environment["OFFLINE"] == "1"
    assert sorted(user) == [fate.name for fate in settled.fates]
    forbidden = [rule for rule in RULES if rule.policy is Policy.FORBIDDEN]
    for name in set(settled.environment) - set(ALWAYS):
        assert not [rule for rule in forbidden if rule.matches(name)]
    for fate in settled.fates:
        is_there = settled.environment.get(fate.name) == user[fate.name]
        assert is_there if fate.outcome is Outcome.KEPT else fate.reason

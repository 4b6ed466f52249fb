"""What was set, in the settings and for a model, in its engine's own terms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from runner.engines.configured import Configured
from runner.engines.environment import Outcome
from runner.engines.option_values import options_from
from runner.errors import BadInput, BadSettings, NoEngineFits
from runner.scheduler.order import Settled
from runner.scheduler.planning import Planner
from runner.scheduler.settling import settled
from runner.settings import BackendSettings
from tests.scheduler.house import (
    FOLDER,
    MODEL,
    SHIPPED,
    backend,
    configure,
    install,
    order,
    package_demo,
    package_folder,
    planner,
    spec,
    value,
)

DIRECT = "localhost:5000/demo:direct"


@pytest.fixture
def native(tmp_path: Path) -> Planner:
    made = backend(planner(tmp_path / "home"), "llama.cpp", binary=Path(__file__))
    package_demo(made)
    return made


def _with(planner: Planner, **fields: object) -> Planner:
    return backend(planner, "llama.cpp", binary=Path(__file__), **fields)


# What goes before what


def test_a_model_goes_before_the_settings_and_an_engine_before_any(native: Planner) -> None:
    """Field by field."""
    planned = _with(native, options={"threads": 1, "parallel": 1, "batch_size": 1, "seed": 1})
    configure(planned, MODEL, options={"parallel": 2, "batch_size": 2, "seed": 2})
    configure(planned, MODEL, "llama.cpp", options={"batch_size": 3})
    configure(planned, MODEL, "vllm", options={"seed": 4})
    options = order(planned).settled.options
    assert (options.threads, options.parallel) == (1, 2)
    assert (options.batch_size, options.seed) == (3, 2)
    made = spec(planned)
    assert [value(made, flag) for flag in ("--threads", "--parallel", "--batch-size")] == [
        "1",
        "2",
        "3",
    ]


def test_each_kind_of_setting_has_the_same_order(native: Planner) -> None:
    planned = _with(native, flags=("--prio", "1"), environment={"OMP_A": "1", "OMP_B": "1"})
    assert order(planned).settled.flags == ("--prio", "1")
    configure(planned, MODEL, flags=["--prio", "2"], environment={"OMP_B": "2"})
    found = order(planned).settled
    assert found.flags == ("--prio", "2")
    assert (found.environment["OMP_A"], found.environment["OMP_B"]) == ("1", "2")


def test_a_settings_context_stands_under_a_models(native: Planner) -> None:
    planned = _with(native, context_size=512)
    assert order(planned).context_size == 512
    configure(planned, MODEL, options={"context_size": 1024})
    assert order(planned).context_size == 1024


def test_options_of_the_settings_may_name_the_context_too(native: Planner) -> None:
    planned = _with(native, options={"n_ctx": 700})
    assert order(planned).context_size == 700


def test_the_name_that_was_asked_for_goes_first(native: Planner) -> None:
    """Then other names, then the ID, which stands for the model under any name."""
    model = package_demo(native, DIRECT)
    configure(native, model.id, options={"threads": 1, "parallel": 1, "seed": 1})
    configure(native, MODEL, options={"parallel": 2, "seed": 2})
    configure(native, DIRECT, options={"seed": 3})
    by_name = {name: order(native, name).settled.options for name in (MODEL, DIRECT, model.id)}
    assert [(o.threads, o.parallel) for o in by_name.values()] == [(1, 2), (1, 2), (1, 1)]
    assert by_name[MODEL].seed == 2
    assert by_name[DIRECT].seed == 3
    assert by_name[model.id].seed == 1


def test_a_short_name_is_the_same_name(native: Planner) -> None:
    package_demo(native, "docker.io/ai/demo:latest")
    package_demo(native, "docker.io/ai/zzz:latest")
    configure(native, "docker.io/ai/demo:latest", options={"seed": 1})
    configure(native, "docker.io/ai/zzz:latest", options={"seed": 2})
    for name in ("demo", "ai/demo", "ai/demo:latest", "docker.io/ai/demo:latest"):
        assert order(native, name).settled.options.seed == 1
    assert order(native, "zzz").settled.options.seed == 2


def test_what_is_configured_makes_another_instance(native: Planner) -> None:
    keys = [order(native).key]
    for change in (
        {"options": {"threads": 1}},
        {"parameters": {"sampling.top_k": "40"}},
        {"flags": ["--prio", "1"]},
        {"environment": {"OMP_A": "1"}},
    ):
        configure(native, MODEL, **change)
        keys.append(order(native).key)
    assert len(set(keys)) == 5
    assert len({(key.engine, key.variant, key.model, key.mode) for key in keys}) == 1


def test_what_another_engine_is_told_makes_none(native: Planner) -> None:
    before = order(native).key
    configure(native, MODEL, "vllm", options={"seed": 1})
    configure(native, "localhost:5000/somebody/else:1", options={"seed": 1})
    assert order(native).key == before


# Options that an engine lacks


def test_an_option_that_an_engine_lacks_is_a_verdict(native: Planner) -> None:
    install(native, "vllm/cpu")
    package_folder(native)
    configure(native, FOLDER, options={"cpu_moe_layers": 2})
    with pytest.raises(NoEngineFits, match="could serve this model, but cpu_moe") as caught:
        order(native, FOLDER, "vllm")
    assert "take cpu_moe_layers out" in caught.value.hint


# In an engine's own terms


def _settled(
    wanted: Mapping[str, Any] | None = None,
    backend: BackendSettings | None = None,
    engine: int = 0,
    *,
    native: bool = False,
) -> Settled:
    wanted = wanted or {}
    configured = Configured(
        options_from(wanted.get("options", {})),
        wanted.get("parameters", {}),
        tuple(wanted.get("flags", ())),
        wanted.get("environment", {}),
    )
    return settled(SHIPPED[engine], backend or BackendSettings(), configured, native=native)


def test_parameters_become_options_and_flags() -> None:
    found = _settled({"parameters": {"n_ctx": "512", "sampling.top_k": "40", "n_parallel": "2"}})
    assert (found.options.context_size, found.options.parallel) == (512, 2)
    assert found.flags == ("--top-k", "40")
    assert sorted(found.messages) == [
        "n_ctx sets context_size to 512",
        "n_parallel sets parallel to 2",
        "sampling.top_k is passed as --top-k 40",
    ]


def test_a_users_own_flag_goes_before_a_parameter() -> None:
    wanted = {"parameters": {"sampling.top_k": "40", "sampling.seed": "1"}, "flags": ["--top-k=5"]}
    found = _settled(wanted)
    assert found.flags == ("--seed", "1", "--top-k", "5")
    assert found.messages == ("sampling.seed is passed as --seed 1",)


def test_an_option_by_its_own_name_goes_before_a_parameter() -> None:
    found = _settled({"parameters": {"n_ctx": "512"}, "options": {"context_size": 1024}})
    assert found.options.context_size == 1024
    assert not found.messages


@pytest.mark.parametrize(
    ("wanted", "flags"),
    [
        ({"options": {"threads": 4}}, ("--prio", "1")),
        ({"options": {"mmap": True}}, ("-t", "2", "--prio", "1")),
        ({"options": {"n_threads": 4, "memory_lock": True}}, ("--prio", "1")),
        ({"parameters": {"cpuparams.n_threads": "4"}}, ("--prio", "1")),
        ({"parameters": {"cpuparams.priority": "2"}}, ("-t", "2", "--prio", "2")),
        ({"options": {"parallel": 1}}, ("-t", "2", "--prio", "1")),
    ],
)
def test_a_model_goes_before_flags_of_the_settings(
    wanted: dict[str, Any], flags: tuple[str, ...]
) -> None:
    operators = ("-t", "2", "--prio", "1", "--load-mode", "none")
    found = _settled(wanted, BackendSettings(flags=operators)).flags
    locked = {"mmap", "memory_lock"} & set(wanted.get("options", {}))
    load = () if locked else ("--load-mode", "none")
    assert sorted(found) == sorted((*flags, *load))


def test_a_parameter_goes_before_an_option_of_the_settings() -> None:
    found = _settled({"parameters": {"no_mmap": "true"}}, BackendSettings(options={"mmap": True}))
    assert found.options.mmap is False
    assert found.messages == ("no_mmap sets mmap to false",)
    found = _settled({"options": {"n_ctx": 8}}, BackendSettings(flags=("--ctx-size", "16")))
    assert found.options.context_size == 8
    assert not found.messages


def test_overrides_of_the_settings_stand_under_a_model() -> None:
    overrides = {"max_model_len": 64, "block_size": 16, "theta": 1}
    operators = BackendSettings(options={"hf_overrides": overrides})
    alone = _settled({}, operators, engine=1)
    assert (alone.options.context_size, alone.flags) == (64, ("--block-size", "16"))
    assert len(alone.messages) == 2
    found = _settled({"options": {"n_ctx": 8}, "flags": ["--block-size", "32"]}, operators, 1)
    assert (found.options.context_size, found.flags) == (8, ("--block-size", "32"))
    assert (found.options.hf_overrides, found.messages) == ({"theta": 1}, ())


@pytest.mark.parametrize(
    "wanted", [{"parameters": {"n_gpu_layers": "-1"}}, {"options": {"gpu_layers": -1}}]
)
def test_minus_one_layers_is_as_if_nothing_was_said(wanted: dict[str, Any]) -> None:
    assert _settled(wanted).options == _settled().options
    assert _settled({"parameters": {"n_gpu_layers": "0"}}).options.gpu_layers == 0


@pytest.mark.parametrize(
    ("wanted", "said", "hint"),
    [
        ({"flags": ["--host", "0.0.0.0"]}, "--host is set by the runner itself", "take it out"),
        ({"flags": ["--top-j", "1"]}, "--top-j is no flag of this engine", "did you mean --top-"),
        ({"flags": ["--model-url", "x"]}, "--model-url is refused", "allowed_flags"),
        ({"flags": ["--top-k"]}, "--top-k needs a value", "--top-k VALUE"),
        ({"parameters": {"sampling.topk": "1"}}, "no parameter", "did you mean sampling.top_k?"),
        ({"parameters": {"hostnames": "x"}}, "--host is set by the runner itself", "take it out"),
        ({"parameters": {"n_ctx": "many"}}, "context_size is 'many'", "context_size"),
        ({"environment": {"A B": "1"}}, "'A B' is no name", "NAME=VALUE"),
    ],
)
def test_what_an_engine_refuses(wanted: dict[str, Any], said: str, hint: str) -> None:
    with pytest.raises(BadInput) as caught:
        _settled(wanted)
    assert said in caught.value.message
    assert hint in caught.value.hint


def test_an_operator_can_allow_a_flag_but_never_the_runners_own() -> None:
    allowing = BackendSettings(allowed_flags=("--model-url", "--new-flag", "--host"))
    flags = ["--model-url", "https://x", "--new-flag", "1"]
    assert _settled({"flags": flags}, allowing).flags == tuple(flags)
    with pytest.raises(BadInput, match="--host is set by the runner itself"):
        _settled({"flags": ["--host", "0.0.0.0"]}, allowing)


def test_flags_of_the_settings_are_checked_alike() -> None:
    with pytest.raises(BadInput, match="--api-key is set by the runner itself"):
        _settled(backend=BackendSettings(flags=("--api-key", "x")))


def test_options_of_the_settings_are_named_where_they_are_wrong() -> None:
    with pytest.raises(BadSettings, match=r"backends\.llama\.cpp\.options: .*'thraeds'") as caught:
        _settled(backend=BackendSettings(options={"thraeds": 1}))
    assert caught.value.hint == "did you mean threads?"
    with pytest.raises(BadSettings, match=r"backends\.vllm\.options: seed is 'x'"):
        _settled(backend=BackendSettings(options={"seed": "x"}), engine=1)


def test_what_became_of_each_variable_is_told() -> None:
    found = _settled(
        {"environment": {"GGML_LOG": "1", "LLAMA_ARG_HOST": "0.0.0.0", "HF_TOKEN": "secret"}},
        BackendSettings(environment={"LD_LIBRARY_PATH": "/evil"}),
    )
    fates = {fate.name: fate for fate in found.fates}
    assert {name: fate.outcome for name, fate in fates.items()} == {
        "GGML_LOG": Outcome.KEPT,
        "LD_LIBRARY_PATH": Outcome.DROPPED,
        "LLAMA_ARG_HOST": Outcome.DROPPED,
        "HF_TOKEN": Outcome.DROPPED,
    }
    assert all(fate.reason for fate in fates.values() if fate.outcome is not Outcome.KEPT)
    assert found.environment["GGML_LOG"] == "1"
    assert not {"LD_LIBRARY_PATH", "LLAMA_ARG_HOST", "HF_TOKEN"} & set(found.environment)
    assert "secret" not in str(found.fates)


def test_an_engines_defaults_hold_where_nobody_says_otherwise() -> None:
    assert _settled().environment["NO_COLOR"] == "1"
    assert _settled({"environment": {"NO_COLOR": ""}}).environment["NO_COLOR"] == ""


def test_a_native_process_gets_what_tunes_it_and_nothing_else() -> None:
    tuning = {"GGML_LOG": "1", "OMP_NUM_THREADS": "2", "LC_ALL": "C", "TZ": "UTC", "LLAMA_X": "1"}
    other = {"NODE_OPTIONS": "x", "GIT_SSH_COMMAND": "x", "LLAMA_CACHE": "x", "A": "1"}
    never = {"LD_PRELOAD": "x", "OMP_TOOL_LIBRARIES": "x", "GGML_BACKEND_PATH": "x"}
    wanted = {"environment": {**tuning, **other, **never}}
    found = _settled(wanted, native=True)
    assert found.environment == {**tuning, "NO_COLOR": "1"}
    dropped = {fate.name: fate.reason for fate in found.fates if fate.outcome is Outcome.DROPPED}
    assert set(dropped) == {*other, *never}
    assert "native process" in dropped["A"]
    contained = _settled(wanted).environment
    assert {"NODE_OPTIONS", "A", *tuning} <= set(contained)
    assert not set(never) & set(contained)


def test_an_engines_own_defaults_may_be_changed_natively_too() -> None:
    found = _settled({"environment": {"NO_COLOR": ""}}, native=True)
    assert found.environment["NO_COLOR"] == ""


def test_a_users_flag_opens_no_template_but_the_operators_does() -> None:
    flags = ("--chat-template", "/srv/t.jinja")
    assert (
        _settled(backend=BackendSettings(flags=flags), engine=1).options.chat_template == flags[1]
    )
    with pytest.raises(BadInput, match="opens no file for a client"):
        _settled({"flags": flags}, engine=1)

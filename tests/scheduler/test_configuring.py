"""What a `configure` makes of a configuration, with made-up engines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runner.engines.configured import Configured
from runner.engines.flags import FlagRules
from runner.engines.options import Options
from runner.errors import BadInput
from runner.scheduler.configuring import Asked, Outcome, World, configured
from runner.settings import BackendSettings
from tests.engines.stage import LLAMA, VLLM, StagedEngine

FIRST = replace(
    LLAMA,
    supported=frozenset({"context_size", "threads"}),
    flag_rules=FlagRules(
        known={"--size": True, "--fast": False, "--top-k": True, "--port": True},
        own={"--size": "the option says it", "--port": "the launcher says it"},
        dangerous={"--log-file": "it writes files"},
        nested={"sampling.top_k": "--top-k"},
        impossible={"n_probs": "it has no such thing"},
        options={"--size": "context_size"},
    ),
)
SECOND = replace(
    VLLM,
    supported=frozenset({"context_size", "hf_overrides", "gpu_memory_utilization"}),
    flag_rules=FlagRules(known={"--eager": False, "--block-size": True}),
)


def outcome(
    asked: Asked,
    before: Configured = Configured(),  # noqa: B008 - frozen
    engines: tuple[StagedEngine, ...] = (FIRST, SECOND),
    allowed: tuple[str, ...] = (),
    over: Configured = Configured(),  # noqa: B008 - frozen
) -> Outcome:
    """`over` is what is kept for each engine by name."""
    world = World(
        engines,
        lambda name: BackendSettings(allowed_flags=allowed),
        lambda name, kept: over.over(kept),
    )
    return configured(asked, before, world)


def refused(asked: Asked, engines: tuple[StagedEngine, ...] = (FIRST, SECOND)) -> BadInput:
    with pytest.raises(BadInput) as caught:
        outcome(asked, engines=engines)
    return caught.value


def test_flags_are_read_as_the_first_engine_does_that_takes_them_all() -> None:
    done = outcome(Asked(flags=["--size", "512", "--fast"]))
    assert done.kept == Configured(Options(context_size=512), flags=("--fast",))
    assert [effect.serves for effect in done.effects] == [True, False]
    done = outcome(Asked(flags=["--eager"]))
    assert [effect.serves for effect in done.effects] == [False, True]


def test_flags_that_no_engine_takes_are_refused_with_the_best_advice() -> None:
    error = refused(Asked(flags=["--fats"]))
    assert error.message == f"{FIRST.description.name}, vllm: --fats is no flag of this engine"
    assert error.hint == "did you mean --fast?"
    assert "writes files" in refused(Asked(flags=["--log-file", "x"]), (FIRST,)).message
    assert "launcher" in refused(Asked(flags=["--port", "1"]), (FIRST,)).message


def test_an_operator_allows_what_is_refused() -> None:
    asked = Asked(flags=["--log-file=x", "--secret"])
    done = outcome(asked, engines=(FIRST,), allowed=("--log-file", "--secret"))
    assert done.kept.flags == ("--log-file=x", "--secret")


def test_new_flags_take_the_place_of_the_old_and_none_leaves_them() -> None:
    before = Configured(flags=("--fast",))
    assert outcome(Asked(flags=["--top-k", "1"]), before).kept.flags == ("--top-k", "1")
    assert outcome(Asked({"threads": 1}), before).kept.flags == ("--fast",)
    assert outcome(Asked(flags=[]), before).kept.flags == ()
    assert outcome(Asked(flags=["--size", "9"]), before).kept.flags == ("--fast",)
    assert outcome(Asked(unset=["flags"]), before).kept.flags == ()


def test_overrides_that_are_flags_join_the_others_once() -> None:
    asked = Asked({"hf_overrides": {"block_size": 16, "max_model_len": 64, "theta": 1}})
    first = outcome(asked, Configured(flags=("--eager",)), engines=(SECOND,))
    assert first.kept.flags == ("--eager", "--block-size", "16")
    assert first.kept.options.context_size == 64
    assert first.kept.options.hf_overrides == {"theta": 1}
    assert len(first.messages) == 2
    again = outcome(asked, first.kept, engines=(SECOND,))
    assert again.kept == first.kept


def test_overrides_that_are_all_options_leave_none_behind() -> None:
    before = Configured(Options(hf_overrides={"theta": 1}))
    done = outcome(Asked({"hf_overrides": '{"max_model_len": 64}'}), before, engines=(SECOND,))
    assert done.kept == Configured(Options(context_size=64))


def test_parameters_are_those_that_an_engine_knows() -> None:
    done = outcome(Asked({"sampling.top_k": 40, "threads": "2"}))
    assert done.kept == Configured(Options(threads=2), {"sampling.top_k": "40"})
    assert refused(Asked({"sampling.topk": 1})).hint == "did you mean sampling.top_k?"
    assert refused(Asked({"thread": 1})).hint == "did you mean threads?"
    assert "no such thing" in refused(Asked({"n_probs": 1})).message
    assert refused(Asked({"xyzzy": 1})).hint.startswith("give the engine's own flag")


def test_an_option_that_no_engine_has_is_refused() -> None:
    error = refused(Asked({"threads": 1}), (SECOND,))
    assert error.message == "threads is nothing that vllm can do"
    assert "--backend" in error.hint


def test_what_is_kept_for_an_engine_counts_too() -> None:
    mine = Configured(flags=("--eager",))
    with pytest.raises(BadInput, match="--eager"):
        outcome(Asked({"context_size": 1}), engines=(FIRST,), over=mine)


def test_a_change_that_only_takes_away_is_never_refused() -> None:
    before = Configured(Options(threads=1, seed=1), flags=("--gone",))
    done = outcome(Asked(unset=["threads"]), before)
    assert done.kept == Configured(Options(seed=1), flags=("--gone",))
    assert not any(effect.serves for effect in done.effects)
    assert outcome(Asked({"threads": None}), before).kept.options == Options(seed=1)


def test_one_call_takes_out_and_sets() -> None:
    before = Configured(Options(threads=1), {"sampling.top_k": "1"}, ("--fast",), {"A": "1"})
    asked = Asked({"context_size": 8}, unset=["threads", "sampling.top_k", "A"])
    done = outcome(asked, before)
    assert done.kept == Configured(Options(context_size=8), flags=("--fast",))
    done = outcome(Asked({"threads": 3}, environment={"A": "2", "B": None}, reset=True), before)
    assert done.kept == Configured(Options(threads=3), environment={"A": "2"})

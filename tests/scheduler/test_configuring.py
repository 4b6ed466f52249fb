"""What a `configure` makes of a configuration, with made-up engines and with those we ship."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from runner.engines.base import Engine
from runner.engines.configured import Configured
from runner.engines.flags import FlagRules
from runner.engines.options import Options, Switch
from runner.errors import BadInput
from runner.scheduler.configuring import Asked, Outcome, World, configured
from runner.settings import BackendSettings
from tests.engines.stage import LLAMA, VLLM
from tests.scheduler.house import SHIPPED

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
    engines: tuple[Engine, ...] = (FIRST, SECOND),
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


def refused(asked: Asked, engines: tuple[Engine, ...] = (FIRST, SECOND)) -> BadInput:
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


# The newest word, in whichever way the same was said before

LLAMA_CPP, REAL_VLLM = SHIPPED[0], SHIPPED[1]


def after(*commands: Asked, engine: Engine = LLAMA_CPP) -> Outcome:
    """One command after the other."""
    kept = Configured()
    for asked in commands:
        done = outcome(asked, kept, (engine,))
        kept = done.kept
    return done


WAYS = (
    ("mmap", [(Asked({"mmap": True}), True), (Asked({"no_mmap": "true"}), False)]),
    ("rope_scale", [(Asked({"rope_scale": 4}), 4.0), (Asked({"rope_scaling.factor": "2"}), 2.0)]),
    (
        "flash_attention",
        [
            (Asked({"attention.flash_attention": "true"}), Switch.ON),
            (Asked({"flash_attention": "off"}), Switch.OFF),
            (Asked({"flash-attention": "auto"}), Switch.AUTO),
            (Asked({"flash_attn": False}), Switch.OFF),
        ],
    ),
    ("context_size", [(Asked({"n_ctx": 8}), 8), (Asked(flags=["-c", "16"]), 16)]),
)


@pytest.mark.parametrize(("option", "ways"), WAYS, ids=[option for option, _ in WAYS])
def test_the_newest_word_on_an_option_holds(option: str, ways: list[tuple[Asked, object]]) -> None:
    for order in permutations(ways):
        done = after(*(asked for asked, _ in order))
        last = order[-1][1]
        (effect,) = done.effects
        assert effect.settled is not None
        assert getattr(done.kept.options, option) == last
        assert getattr(effect.settled.options, option) == last
        assert effect.settled.options.set_fields() == (option,)
        assert not done.kept.parameters
        assert not done.kept.flags
        assert not effect.settled.messages


def test_what_a_parameter_sets_is_told_once() -> None:
    assert after(Asked({"mmap": True}), Asked({"no_mmap": "true"})).messages == (
        "no_mmap sets mmap to false",
    )
    assert after(Asked({"no_mmap": "true"}), Asked({"mmap": True})).messages == ()


@pytest.mark.parametrize(
    ("flags", "values", "options"),
    [
        (["--flash-attn", "off"], {"flash_attention": "on"}, Options(flash_attention=Switch.ON)),
        (["-fa", "off"], {"flash_attn": "on"}, Options(flash_attention=Switch.ON)),
        (["-ngl", "all"], {"gpu_layers": 3}, Options(gpu_layers=3)),
        (["--rope-scale", "2"], {"rope_scaling.factor": 4}, Options(rope_scale=4.0)),
        (["--load-mode", "none"], {"mmap": True}, Options(mmap=True)),
        (["-lm", "mlock"], {"memory_lock": False}, Options(memory_lock=False)),
        (["-ub", "1"], {"n_ubatch": 2}, Options(micro_batch_size=2)),
        (["-ts", "1,2"], {"split": [2, 1]}, Options(split=(2.0, 1.0))),
    ],
)
def test_an_option_and_an_engines_own_flag(
    flags: list[str], values: dict[str, Any], options: Options
) -> None:
    rest = ["--prio", "1"]
    done = after(Asked(flags=[*flags, *rest]), Asked(values))
    assert done.kept == Configured(options, flags=tuple(rest))
    done = after(Asked(values), Asked(flags=[*flags, *rest]))
    assert done.kept == Configured(flags=(*flags, *rest))


def test_a_parameter_and_an_engines_own_flag() -> None:
    values = {"n_predict": 5}
    assert after(Asked(flags=["-n", "9"]), Asked(values)).kept == Configured(
        parameters={"n_predict": "5"}
    )
    assert after(Asked(values), Asked(flags=["-n", "9"])).kept == Configured(flags=("-n", "9"))
    done = after(Asked({"sampling.top_k": 1}), Asked({"sampling.top-k": 2}))
    assert done.kept.parameters == {"sampling.top-k": "2"}


@pytest.mark.parametrize(
    ("values", "flags"),
    [
        ({"mmap": True, "no_mmap": "true"}, None),
        ({"rope_scale": 4, "rope_scaling.factor": 2}, None),
        ({"attention.flash_attention": "true", "flash_attention": "off"}, None),
        ({"flash_attn": "true", "attention.flash_attention": "false"}, None),
        ({"mmap": None, "no_mmap": "true"}, None),
        ({"n_ctx": 8, "context_size": 16}, None),
        ({"flash_attention": "on"}, ["-fa", "off"]),
        ({"sampling.top_k": 1}, ["--top-k", "2"]),
        ({"n_ctx": 8}, ["-c", "9"]),
        ({"mmap": True}, ["--load-mode", "none"]),
    ],
)
def test_one_command_that_contradicts_itself_is_refused(
    values: dict[str, Any], flags: Sequence[str] | None
) -> None:
    with pytest.raises(BadInput, match="given twice, in two ways that differ"):
        after(Asked(values, flags))


@pytest.mark.parametrize(
    ("values", "flags"),
    [
        ({"mmap": False, "no_mmap": "true"}, None),
        ({"rope_scale": "2", "rope_scaling.factor": 2.0}, None),
        ({"attention.flash_attention": "true", "flash_attention": "on"}, None),
        ({"flash_attention": True}, ["-fa", "on"]),
        ({"n_ctx": 8}, ["-c", "8"]),
    ],
)
def test_one_command_that_says_the_same_twice_is_taken(
    values: dict[str, Any], flags: Sequence[str] | None
) -> None:
    (effect,) = after(Asked(values, flags)).effects
    assert effect.serves


def test_a_parameter_that_is_an_option_goes_again_by_either_name() -> None:
    first = Asked({"no_mmap": "true"})
    for name in ("no_mmap", "mmap"):
        assert after(first, Asked(unset=[name])).kept.is_empty
        assert after(first, Asked({name: None})).kept.is_empty


def test_a_flag_among_the_overrides_takes_the_place_of_the_older() -> None:
    def overrides(**values: object) -> Asked:
        return Asked({"hf_overrides": values})

    block = [overrides(block_size=size) for size in (16, 32)]
    assert after(*block, engine=REAL_VLLM).kept.flags == ("--block-size", "32")
    caching = [overrides(enable_prefix_caching=one) for one in (True, False)]
    done = after(*block, *caching, engine=REAL_VLLM)
    assert done.kept.flags == ("--block-size", "32", "--no-enable-prefix-caching")
    done = after(Asked(flags=["--block-size=16"]), block[1], engine=REAL_VLLM)
    assert done.kept.flags == ("--block-size", "32")
    with pytest.raises(BadInput, match="given twice"):
        outcome(
            Asked({"hf_overrides": {"block_size": 1}}, ["--block-size", "2"]), engines=(SECOND,)
        )


@pytest.mark.parametrize("key", ["max_model_len", "n_ctx", "gpu_memory_utilization"])
def test_a_bad_value_among_the_overrides_is_named_by_its_own_key(key: str) -> None:
    with pytest.raises(BadInput) as caught:
        after(Asked({"hf_overrides": {"theta": 1, key: "many"}}), engine=REAL_VLLM)
    assert caught.value.message.startswith(f"hf_overrides.{key}: ")
    assert "'many'" in caught.value.message

"""When an instance counts as one that keeps ending."""

from __future__ import annotations

import pytest

from runner.engines.base import Mode
from runner.errors import (
    BadInput,
    DockerUnavailable,
    EngineFailed,
    EngineStartTimeout,
    InUse,
    NoEngineFits,
    RunnerError,
    ShuttingDown,
)
from runner.scheduler.core import Key
from runner.scheduler.misfortunes import TIMES, WITHIN_S, Misfortunes, is_misfortune
from runner.scheduler.succession import Trouble, Why

KEY = Key("vllm", "cpu", "sha256:a", Mode.COMPLETION, "c")
OTHER = Key("vllm", "cpu", "sha256:b", Mode.COMPLETION, "c")
DIED = EngineFailed("it died")


def test_several_ends_within_a_while_are_a_loop() -> None:
    found = Misfortunes()
    for number in range(TIMES):
        assert not found.trouble(KEY, number)
        found.note(KEY, number, DIED)
    assert found.trouble(KEY, TIMES)
    assert not found.trouble(OTHER, TIMES)


def test_ends_far_apart_are_none() -> None:
    found = Misfortunes()
    for number in range(2 * TIMES):
        found.note(KEY, number * WITHIN_S, DIED)
    assert not found.trouble(KEY, 2 * TIMES * WITHIN_S)


def test_an_unload_gives_it_another_chance() -> None:
    found = Misfortunes()
    for number in range(TIMES):
        found.note(KEY, number, DIED)
    assert found.forget(KEY.model)
    assert not found.trouble(KEY, TIMES)
    assert not found.forget(KEY.model), "there is nothing left to forget"


def test_it_says_what_happened_last_and_until_when_it_counts() -> None:
    found = Misfortunes()
    for number in range(TIMES + 1):
        found.note(KEY, number, EngineFailed(f"end {number}"))
    until = 1 + WITHIN_S
    assert found.trouble(KEY, TIMES) == Trouble(Why.KEEPS_FAILING, f"end {TIMES}", until)
    assert found.trouble(KEY, until)
    assert not found.trouble(KEY, until + 1)


def test_what_was_too_slow_once_has_not_failed_often() -> None:
    found = Misfortunes()
    found.note(KEY, 5, EngineStartTimeout("too slow"))
    trouble = Trouble(Why.DID_NOT_START, "too slow", 5 + WITHIN_S)
    assert found.trouble(KEY, 5) == trouble


def test_one_start_that_timed_out_is_enough() -> None:
    found = Misfortunes()
    found.note(KEY, 5, EngineStartTimeout("too slow"))
    assert found.trouble(KEY, 5 + WITHIN_S)
    assert not found.trouble(KEY, 6 + WITHIN_S)


def test_old_ones_are_dropped() -> None:
    found = Misfortunes()
    for number in range(100):
        key = Key("vllm", "cpu", "sha256:a", Mode.COMPLETION, str(number))
        found.note(key, number * WITHIN_S / 2, DIED)
    assert len(found) == 3


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (DIED, True),
        (EngineStartTimeout("too slow"), True),
        (NoEngineFits("no such device"), True),
        (DockerUnavailable("it does not answer"), True),
        (InUse("the name is taken"), True),
        (ShuttingDown("the end"), False),
        (BadInput("no such flag"), False),
        (RunnerError("odd"), False),
    ],
)
def test_what_another_engine_may_do_better(error: RunnerError, is_one: bool) -> None:
    assert is_misfortune(error) is is_one

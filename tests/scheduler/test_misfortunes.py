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

KEY = Key("vllm", "cpu", "sha256:a", Mode.COMPLETION, "c")
OTHER = Key("vllm", "cpu", "sha256:b", Mode.COMPLETION, "c")
DIED = EngineFailed("it died")


def test_several_ends_within_a_while_are_a_loop() -> None:
    found = Misfortunes()
    for number in range(TIMES):
        assert not found.loops(KEY, number)
        found.note(KEY, number, DIED)
    assert found.loops(KEY, TIMES)
    assert not found.loops(OTHER, TIMES)


def test_ends_far_apart_are_none() -> None:
    found = Misfortunes()
    for number in range(2 * TIMES):
        found.note(KEY, number * WITHIN_S, DIED)
    assert not found.loops(KEY, 2 * TIMES * WITHIN_S)


def test_an_unload_gives_it_another_chance() -> None:
    found = Misfortunes()
    for number in range(TIMES):
        found.note(KEY, number, DIED)
    found.forget(KEY.model)
    assert not found.loops(KEY, TIMES)


def test_one_start_that_timed_out_is_enough() -> None:
    found = Misfortunes()
    found.note(KEY, 5, EngineStartTimeout("too slow"))
    assert found.loops(KEY, 5 + WITHIN_S)
    assert not found.loops(KEY, 6 + WITHIN_S)


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

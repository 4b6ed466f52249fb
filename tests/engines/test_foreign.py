"""Calls into others' code: whatever it does, its caller is not kept, and runs none of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from runner.engines.foreign import SHOWN, Failed, Late, called
from runner.errors import BadInput, RunnerError
from tests.support.program import DEADLINE_S

LIMIT_S = 0.2


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    over = threading.Event()
    yield over
    over.set()


def raised(error: BaseException, timeout_s: float = DEADLINE_S) -> Exception:
    """What the caller hears of code that raises it."""

    def fail() -> None:
        raise error

    with pytest.raises((Failed, RunnerError)) as caught:
        called(fail, timeout_s)
    return caught.value


def test_an_exception_is_told_in_one_line() -> None:
    assert str(raised(ValueError("two\nlines"))) == "ValueError: two lines"
    assert str(raised(SystemExit())) == "SystemExit"
    assert len(str(raised(ValueError("x " * SHOWN)))) <= SHOWN


def test_an_exception_whose_text_hangs_is_late(gate: threading.Event) -> None:
    class Hangs(Exception):
        def __str__(self) -> str:
            gate.wait(DEADLINE_S)
            return ""

    before = time.monotonic()
    error = raised(Hangs(), LIMIT_S)
    assert isinstance(error, Late)
    assert str(error) == "it did not return within 0.2 s"
    assert time.monotonic() - before < DEADLINE_S / 2


def test_an_exception_whose_text_fails_is_told_by_its_name() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise SystemExit(1)

    error = raised(Broken())
    assert str(error) == "Broken"
    assert not isinstance(error, Late)


def test_texts_are_made_in_the_codes_own_thread() -> None:
    threads: list[threading.Thread] = []

    class Tells(Exception):
        def __str__(self) -> str:
            threads.append(threading.current_thread())
            return "told"

    error = raised(Tells())
    assert str(error) == "Tells: told"
    assert error.__cause__ is None, "whoever prints a traceback runs no code of it"
    assert threads
    assert threading.current_thread() not in threads


def test_errors_of_the_runner_pass_with_their_hint_and_log() -> None:
    error = raised(BadInput("no such thing", hint="another", log=["line"]))
    assert type(error) is BadInput
    assert (error.message, error.hint, error.log) == ("no such thing", "another", ("line",))


def test_an_error_that_only_descends_from_the_runners_is_the_runners_own(
    gate: threading.Event,
) -> None:
    class Mine(BadInput):
        def __str__(self) -> str:
            gate.wait(DEADLINE_S)
            return "never"

    error = raised(Mine("no such thing", hint="another"))
    assert type(error) is BadInput
    assert (str(error), error.hint) == ("no such thing", "another")

    class Lazy:
        def __str__(self) -> str:
            gate.wait(DEADLINE_S)
            return "never"

    assert isinstance(raised(BadInput(Lazy()), LIMIT_S), Late)  # type: ignore[arg-type]

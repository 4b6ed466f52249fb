"""Progress as it is added up and shown, on a clock that the test moves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from runner.cli.progress import Plain
from runner.cli.tally import Tally, layer_name
from runner.models.progress import ProgressEvent, ProgressKind, TransferMode, summed
from runner.registry.digest import digest_of

MB = 1_000_000
DIGEST = digest_of(b"")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def line(layer: str, current: int, size: int, total: int) -> Mapping[str, Any]:
    return event(layer, current, size, total).document()


def event(layer: str, current: int, size: int, total: int) -> ProgressEvent:
    return ProgressEvent(ProgressKind.PROGRESS, TransferMode.PULL, "x", total, layer, size, current)


def test_layers_add_up_to_the_whole(clock: Clock) -> None:
    tally = Tally(clock)
    assert tally.take(line("a", 1, 4, 10))
    assert tally.take(line("b", 2, 6, 10))
    assert tally.take(line("a", 4, 4, 10))
    assert (tally.done, tally.total) == (6, 10)
    assert [layer.name for layer in tally.running()] == ["b"]


def test_a_line_without_a_layer_is_no_part_of_the_sum(clock: Clock) -> None:
    told = ProgressEvent(ProgressKind.PROGRESS, TransferMode.PULL, "resolving").document()
    assert not Tally(clock).take(told)


def test_speed_counts_only_what_moves_now(clock: Clock) -> None:
    """A layer that was here, and the part of another that an earlier pull left, are no speed."""
    tally = Tally(clock)
    tally.take(line("here", 500 * MB, 500 * MB, 600 * MB))
    tally.take(line("resumed", 50 * MB, 100 * MB, 600 * MB))
    clock.now = 2.0
    tally.take(line("resumed", 60 * MB, 100 * MB, 600 * MB))
    assert tally.words() == "560.0 MB of 600.0 MB, 5.0 MB/s, 8 s left"


def test_the_speed_is_the_average_of_the_last_8_seconds(clock: Clock) -> None:
    """Bursts every other second: nothing of them is seen, nor of what was before the window."""
    tally, current = Tally(clock), 100 * MB
    tally.take(line("a", 0, 500 * MB, 500 * MB))
    told = []
    for second in range(1, 21):
        clock.now = float(second)
        current += 20 * MB if second % 2 else 0
        tally.take(line("a", current, 500 * MB, 500 * MB))
        told.append(tally.words().split(", ")[1])
    assert set(told[9:]) == {"10.0 MB/s"}


def test_a_standstill_has_no_speed(clock: Clock) -> None:
    tally = Tally(clock)
    tally.take(line("a", 0, 50 * MB, 50 * MB))
    for second, current in ((1, 9), (2, 10), (10, 10)):
        clock.now = float(second)
        tally.take(line("a", current * MB, 50 * MB, 50 * MB))
        words = tally.words()
    assert words == "10.0 MB of 50.0 MB"


def test_a_layer_that_begins_anew_runs_again(clock: Clock) -> None:
    tally = Tally(clock)
    tally.take(line("a", 5, 5, 9))
    tally.take(line("a", 1, 5, 9))
    assert tally.done == 1
    assert len(tally.running()) == 1


@pytest.mark.parametrize(
    ("left", "words"), [(30, "30 s left"), (90, "1 min 30 s left"), (7500, "2 h 5 min left")]
)
def test_times_are_written_as_people_say_them(clock: Clock, left: int, words: str) -> None:
    tally, total = Tally(clock), (left + 1) * MB
    tally.take(line("a", 0, total, total))
    clock.now = 1.0
    tally.take(line("a", MB, total, total))
    assert tally.words().endswith(words)


def test_a_layer_that_is_the_whole_is_told_once(clock: Clock) -> None:
    tally = Tally(clock)
    tally.take(line("a", 1, 5, 5))
    assert tally.running() == []
    assert tally.words() == "1 B of 5 B"


def test_names_of_layers_are_short() -> None:
    assert layer_name(DIGEST) == "e3b0c44298fc"
    assert layer_name("model.gguf") == "model.gguf"
    assert len(layer_name("a/very/long/folder/name/model-00001-of-00008.safetensors")) == 24


def test_plain_lines_come_every_two_seconds(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = Plain(clock)
    for tenth in range(50):
        clock.now = tenth / 10
        plain.tell(line(DIGEST, tenth * MB, 100 * MB, 200 * MB))
    plain.close()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "e3b0c44298fc: 20.0 MB of 100.0 MB",
        "total: 20.0 MB of 200.0 MB, 10.0 MB/s, 18 s left",
        "e3b0c44298fc: 40.0 MB of 100.0 MB",
        "total: 40.0 MB of 200.0 MB, 10.0 MB/s, 16 s left",
    ]


def test_events_carry_what_all_layers_have() -> None:
    told: list[ProgressEvent] = []
    progress = summed(told.append)
    for layer, current in (("a", 1), ("b", 2), ("a", 4)):
        progress(event(layer, current, 4, 8))
    assert [found.done for found in told] == [1, 3, 6]
    assert told[-1].document() == {
        "type": "progress",
        "message": "x",
        "total": 8,
        "done": 6,
        "layer": {"id": "a", "size": 4, "current": 4},
        "mode": "pull",
    }

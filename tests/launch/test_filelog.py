"""Log files: their last lines, and following one through its rotation."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Iterator
from logging.handlers import RotatingFileHandler
from pathlib import Path

import pytest

from runner.launch.filelog import FileLog, tail_of
from runner.launch.leash import RotatingLog
from runner.launch.lines import MAX_LINE, LineSplitter


@pytest.fixture
def log(tmp_path: Path) -> Iterator[RotatingLog]:
    log = RotatingLog(str(tmp_path / "log"), limit=8)
    yield log
    log.close()


def test_the_tail_goes_back_into_the_rotated_file(log: RotatingLog, tmp_path: Path) -> None:
    file = tmp_path / "log"
    for line in (b"one\n", b"two\n", b"three\n"):
        log.write(line)
    assert file.read_text() == "three\n"
    assert tail_of(file, 2) == ("two", "three")
    assert tail_of(file, 9) == ("one", "two", "three")


def test_there_are_never_more_than_two_files(log: RotatingLog, tmp_path: Path) -> None:
    for number in range(20):
        log.write(b"%04d\n" % number)
    assert tail_of(tmp_path / "log", 9) == ("0018", "0019")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["log", "log.1"]


def test_following_goes_on_in_the_new_file(log: RotatingLog, tmp_path: Path) -> None:
    file, ended = tmp_path / "log", threading.Event()
    log.write(b"one\n")
    lines = FileLog(file, 5, ended)
    assert next(lines) == "one"
    log.write(b"two\n")
    log.write(b"three\n")
    assert [next(lines), next(lines)] == ["two", "three"]
    log.write(b"end")
    ended.set()
    assert list(lines) == ["end"]


def test_a_rotated_daemon_log_is_followed(tmp_path: Path) -> None:
    """Python's own rotation, as the daemon has it, while lines are written all the time."""
    file, ended = tmp_path / "daemon.log", threading.Event()
    handler = RotatingFileHandler(file, maxBytes=64, backupCount=2)
    try:
        emit(handler, 0)
        lines = FileLog(file, 5, ended)
        for number in range(50):
            assert next(lines) == f"line {number}"
            emit(handler, number + 1)
        ended.set()
        assert list(lines) == ["line 50"]
    finally:
        handler.close()


def emit(handler: logging.Handler, number: int) -> None:
    handler.handle(logging.makeLogRecord({"msg": f"line {number}"}))


def test_no_line_falls_between_the_tail_and_what_follows(tmp_path: Path) -> None:
    file, ended = tmp_path / "log", threading.Event()

    def write() -> None:
        with file.open("ab", buffering=0) as opened:
            for number in itertools.count():
                if ended.is_set():
                    return
                opened.write(b"%d\n" % number)

    file.touch()
    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(50):
            lines = FileLog(file, 5, ended)
            seen = [int(next(lines)) for _ in range(200)]
            lines.close()
            assert seen == list(range(seen[0], seen[0] + 200))
    finally:
        ended.set()
        writer.join()


def test_an_unfinished_line_is_told_once_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("one\ntw")
    lines = FileLog(file, 5, threading.Event())
    assert next(lines) == "one"
    with file.open("a") as opened:
        opened.write("o\n")
    assert next(lines) == "two"
    lines.close()


def test_following_can_be_closed(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("one\n")
    lines = FileLog(file, 5, threading.Event())
    lines.close()
    assert list(lines) == ["one"]


def test_lines_are_put_together_and_capped() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"a\r\nb") == ["a"]
    assert splitter.feed(b"c\n\xff") == ["bc"]
    assert splitter.flush() == ["�"]
    assert splitter.flush() == []
    assert [len(line) for line in splitter.feed(b"x" * (MAX_LINE + 5))] == [MAX_LINE]
    assert splitter.flush() == ["x" * 5]

"""Questions to a real machine: this one."""

from __future__ import annotations

import grp
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runner.hardware import probe as module
from runner.hardware.probe import MAX_FILE_BYTES, MAX_OUTPUT, TIME_LIMIT_S, HostProbe, Output

PROBE = HostProbe()


def script(folder: Path, text: str) -> str:
    path = folder / "tool"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_the_platform() -> None:
    platform = PROBE.platform()
    assert platform.system == sys.platform
    assert platform.machine == os.uname().machine
    assert 1 <= platform.cpus <= (os.cpu_count() or 1)
    assert platform.memory > 1024**3


def test_a_program_with_its_errors_and_status(tmp_path: Path) -> None:
    tool = script(tmp_path, 'echo "out $1"; echo err >&2; exit 3')
    assert PROBE.run(tool, "a b") == Output("out a b\nerr\n", 3)


def test_a_program_that_is_not_there() -> None:
    assert PROBE.run("no-such-program-anywhere") is None


def test_a_program_that_may_not_be_started(tmp_path: Path) -> None:
    path = tmp_path / "tool"
    path.write_bytes(b"\x7fELF nonsense")
    path.chmod(0o755)
    answer = PROBE.run(str(path))
    assert answer is not None
    assert answer.status is None
    assert not answer.ok


def test_what_is_no_text(tmp_path: Path) -> None:
    answer = PROBE.run(script(tmp_path, r"printf '\377ok'"))
    assert answer == Output("\N{REPLACEMENT CHARACTER}ok", 0)


@pytest.mark.parametrize("way", ["sleep 60", "sleep 60 & wait", "trap '' TERM INT; sleep 60; :"])
def test_a_program_that_hangs_ends_with_all_its_children(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIME_LIMIT_S", 0.3)
    tool = script(tmp_path, f"echo $$ > {tmp_path}/pid\n{way}")
    start = time.monotonic()
    assert PROBE.run(tool) == Output("no answer within 0.3 s", None)
    assert time.monotonic() - start < 2
    group = int((tmp_path / "pid").read_text())
    assert _gone(group)


def _gone(group: int) -> bool:
    """Whether a process group ends within a second; its ended members are others' to reap."""
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        states = subprocess.run(
            ["ps", "-o", "stat=", "-g", str(group)], capture_output=True, text=True, check=False
        ).stdout.split()
        if all(state.startswith("Z") for state in states):
            return True
        time.sleep(0.02)
    os.killpg(group, signal.SIGKILL)
    return False


def test_a_child_that_stays_behind_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIME_LIMIT_S", 0.3)
    start = time.monotonic()
    answer = PROBE.run(script(tmp_path, f"echo $$ > {tmp_path}/pid; sleep 60 & exit 0"))
    assert answer is not None
    assert not answer.ok
    assert time.monotonic() - start < 2
    assert _gone(int((tmp_path / "pid").read_text()))


def test_a_program_that_prints_without_end_is_ended(tmp_path: Path) -> None:
    start = time.monotonic()
    answer = PROBE.run(script(tmp_path, f"echo $$ > {tmp_path}/pid; exec yes"))
    assert answer is not None
    assert answer.status is None
    assert len(answer.text) == MAX_OUTPUT
    assert time.monotonic() - start < TIME_LIMIT_S
    assert _gone(int((tmp_path / "pid").read_text()))


def test_all_of_a_long_answer_is_read(tmp_path: Path) -> None:
    answer = PROBE.run(script(tmp_path, f"head -c {MAX_OUTPUT} /dev/zero; exit 3"))
    assert answer == Output("\0" * MAX_OUTPUT, 3)


def test_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one\n\xff\0two")
    (tmp_path / "long").write_bytes(b"x" * (MAX_FILE_BYTES + 1))
    assert PROBE.read(f"{tmp_path}/a") == "one\n\N{REPLACEMENT CHARACTER}\0two"
    assert len(PROBE.read(f"{tmp_path}/long") or "") == MAX_FILE_BYTES
    assert PROBE.read(f"{tmp_path}/none") is None
    assert PROBE.read(str(tmp_path)) is None
    assert PROBE.read("/proc/self/mem") is None


def test_patterns(tmp_path: Path) -> None:
    for name in ("card1/x", "card0/x", "card0/sub/x", "other"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert PROBE.glob(f"{tmp_path}/card*/x") == (f"{tmp_path}/card0/x", f"{tmp_path}/card1/x")
    assert PROBE.glob(f"{tmp_path}/none*") == ()


def test_groups(tmp_path: Path) -> None:
    mine = grp.getgrgid(os.getgid())
    assert PROBE.group(mine.gr_name) == mine.gr_gid
    assert PROBE.group("no-such-group") is None
    (tmp_path / "a").touch()
    assert PROBE.owner(f"{tmp_path}/a") == (tmp_path / "a").stat().st_gid
    assert PROBE.owner(f"{tmp_path}/none") is None

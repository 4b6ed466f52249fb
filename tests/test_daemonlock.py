"""The daemon's lock: one holder, and those who only look are in nobody's way."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runner.daemonlock import become_only_daemon, is_held
from runner.errors import AlreadyRunning
from runner.home import Home

HOLDER = """
import sys
from pathlib import Path
from runner.daemonlock import become_only_daemon
from runner.home import Home
become_only_daemon(Home(Path(sys.argv[1])))
print("held", flush=True)
sys.stdin.read()
"""

AFTER_A_LOOK = """
import fcntl, os, sys, threading
from pathlib import Path
from runner.daemonlock import become_only_daemon
from runner.home import Home
home = Home(Path(sys.argv[1]))
looker = os.open(home.daemon_lock, os.O_RDONLY)
fcntl.flock(looker, fcntl.LOCK_SH)
threading.Timer(0.05, os.close, (looker,)).start()
become_only_daemon(home)
"""


@contextmanager
def held(root: Path) -> Iterator[int]:
    command = [sys.executable, "-c", HOLDER, str(root)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process.pid
        process.communicate()


def test_there_is_one_daemon_at_a_time(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert not is_held(home)
    with held(tmp_path) as pid:
        assert is_held(home)
        with pytest.raises(AlreadyRunning, match=f"pid {pid}"):
            become_only_daemon(home)
    assert not is_held(home)


def test_a_look_does_not_refuse_a_daemon_that_starts(tmp_path: Path) -> None:
    Home(tmp_path).daemon_lock.touch()
    command = [sys.executable, "-c", AFTER_A_LOOK, str(tmp_path)]
    subprocess.run(command, check=True, timeout=60)

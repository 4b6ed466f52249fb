"""How quick the commands are that a person types often: `python -m benchmarks.hand`.

Each is run whole, as a process, in turns with its peers (Python's own start, and `docker ps` where
there is Docker), so that a busy machine slows all alike. Prints the medians and writes them, with
the machine and the command, to benchmarks/results/hand.md.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks._machine import kernel

ROUNDS = 15
RESULTS = Path(__file__).parent / "results" / "hand.md"
RUNNER = (sys.executable, "-m", "runner")
BOUNDS_MS = {"runner --help": 150, "runner ps": 250, "runner status": 250}

Figures = dict[str, list[float]]


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="hand-", dir="/tmp") as home:
        os.environ["RUNNER_HOME"] = home
        os.environ["RUNNER_PORT"] = str(_free_port())
        _quiet(*RUNNER, "start-runner")
        try:
            figures = _measure(_commands())
        finally:
            _quiet(*RUNNER, "stop-runner")
    report = _report(figures)
    print(report)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(report)


def _commands() -> dict[str, Sequence[str]]:
    commands: dict[str, Sequence[str]] = {
        "python -c pass": (sys.executable, "-c", "pass"),
        "runner --help": (*RUNNER, "--help"),
        "runner ps": (*RUNNER, "ps"),
        "runner status": (*RUNNER, "status"),
        "runner ls": (*RUNNER, "ls"),
    }
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0:
        commands["docker ps"] = ("docker", "ps")
    return commands


def _measure(commands: dict[str, Sequence[str]]) -> Figures:
    figures: Figures = {name: [] for name in commands}
    for command in commands.values():
        _quiet(*command)
    for _ in range(ROUNDS):
        for name, command in commands.items():
            began = time.perf_counter()
            _quiet(*command)
            figures[name].append((time.perf_counter() - began) * 1000)
    return figures


def _report(figures: Figures) -> str:
    start = statistics.median(figures["python -c pass"])
    lines = [
        "# The speed of the hand",
        "",
        f"`python -m benchmarks.hand`: {ROUNDS} rounds in turns, a daemon running. "
        f"{os.cpu_count()} cores, {platform.system()} {kernel()}, "
        f"Python {platform.python_version()}.",
        "",
        "| command | median ms | lowest | highest | x python's start | wanted |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, times in figures.items():
        median = statistics.median(times)
        wanted = f"≤ {BOUNDS_MS[name]}" if name in BOUNDS_MS else ""
        lines.append(
            f"| `{name}` | {median:.0f} | {min(times):.0f} | {max(times):.0f} "
            f"| {median / start:.1f} | {wanted} |"
        )
    return "\n".join(lines) + "\n"


def _quiet(*command: str) -> None:
    subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )


def _free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


if __name__ == "__main__":
    main()

"""Pulls a model, or pushes it, and prints how much memory that took at most, in bytes.

`python -m tests.models.mover STORE pull|push NAME [TARGET]`: a process of its own, so that the
figure is that of the transfer alone.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from runner.models.transfer import pull, push
from runner.registry.reference import parse
from runner.settings import Settings
from runner.store.store import ModelStore


def main(root: str, verb: str, name: str, target: str = "") -> None:
    store = ModelStore(Path(root))
    if verb == "pull":
        pull(store, parse(name), Settings())
    else:
        push(store, name, Settings(), target=parse(target))
    print(_peak_memory())


def _peak_memory() -> int:
    """On Linux by /proc: getrusage there counts what the process was before its exec, too."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main(*sys.argv[1:])

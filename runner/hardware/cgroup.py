"""What the runner's own control groups allow, of version 1 and 2: in a container the machine has
more than that."""

from __future__ import annotations

from collections.abc import Iterator

from runner.hardware.probe import Probe
from runner.hardware.text import number

ROOT = "/sys/fs/cgroup"


def memory_limit(probe: Probe) -> int | None:
    """In bytes; None where there is none."""
    files = ("memory.max", "memory.limit_in_bytes")
    limits = [
        limit
        for folder in _folders(probe, "memory")
        for file in files
        if (limit := number(probe.read(f"{folder}/{file}")))
    ]
    return min(limits, default=None)


def cpu_limit(probe: Probe) -> int | None:
    """Whole processors, rounded up; None where there is none."""
    limits = [limit for folder in _folders(probe, "cpu") if (limit := _quota(probe, folder))]
    return min(limits, default=None)


def _quota(probe: Probe, folder: str) -> int | None:
    both = (probe.read(f"{folder}/cpu.max") or "").split()
    if not both:
        both = [
            probe.read(f"{folder}/cpu.cfs_quota_us") or "",
            probe.read(f"{folder}/cpu.cfs_period_us") or "",
        ]
    quota, period = number(both[0]), number(both[-1])
    return -(-quota // period) if quota and period else None


def _folders(probe: Probe, controller: str) -> Iterator[str]:
    """From the group of this process up to the root, each of which may limit it."""
    for line in (probe.read("/proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        base = f"{ROOT}/{controllers}" if controllers else ROOT
        parts = [part for part in path.split("/") if part]
        for length in range(len(parts), -1, -1):
            yield "/".join([base, *parts[:length]])

"""Limits of control groups, in the forms that systemd, Docker and Kubernetes leave them."""

from __future__ import annotations

import pytest

from runner.hardware.cgroup import cpu_limit, memory_limit
from runner.hardware.probe import Platform
from runner.hardware.recorded import RecordedProbe, Recording

ROOT = "/sys/fs/cgroup"
UNLIMITED = "9223372036854771712"


def host(groups: str, **files: str) -> RecordedProbe:
    """`files` by their place below the root, `__` for a slash and `_` for a dot."""
    paths = {
        f"{ROOT}/{name.replace('__', '/').replace('_', '.', 1)}": (text,)
        for name, text in files.items()
    }
    recorded = {"/proc/self/cgroup": tuple(groups.split("\n")), **paths}
    return RecordedProbe(Recording(Platform("linux", "x86_64", 8, 1024**4), files=recorded))


@pytest.mark.parametrize(
    ("probe", "memory"),
    [
        (host("0::/"), None),
        (host("0::/", memory_max="max"), None),
        (host("0::/", memory_max="4096"), 4096),
        (host("0::/a/b", a__memory_max="4096", a__b__memory_max="max"), 4096),
        (host("0::/a/b", a__memory_max="4096", a__b__memory_max="512"), 512),
        (host("0::/a", b__memory_max="512"), None),
        (host(""), None),
    ],
)
def test_memory_of_version_two(probe: RecordedProbe, memory: int | None) -> None:
    assert memory_limit(probe) == memory


def version_one(groups: str, **limits: str) -> RecordedProbe:
    files = {f"{ROOT}/{place.replace('__', '/')}": (text,) for place, text in limits.items()}
    recorded = {"/proc/self/cgroup": tuple(groups.split("\n")), **files}
    return RecordedProbe(Recording(Platform("linux", "x86_64", 8, 1024**4), files=recorded))


@pytest.mark.parametrize("path", ["/docker/abc", "/"])
def test_memory_of_version_one_in_a_container(path: str) -> None:
    """The path is the host's, the file stands where the container's root is."""
    files = {"memory__memory.limit_in_bytes": "2048"}
    assert memory_limit(version_one(f"9:memory:{path}\n0::/", **files)) == 2048


def test_no_limit_in_version_one_is_a_very_high_one() -> None:
    files = {"memory__memory.limit_in_bytes": UNLIMITED}
    assert memory_limit(version_one("9:memory:/", **files)) == int(UNLIMITED)


@pytest.mark.parametrize(
    ("quota", "cpus"),
    [("max 100000", None), ("200000 100000", 2), ("150000 100000", 2), ("10000 100000", 1),
     ("100000 0", None), ("what", None)],
)  # fmt: skip
def test_processors_of_version_two(quota: str, cpus: int | None) -> None:
    assert cpu_limit(host("0::/", cpu_max=quota)) == cpus


@pytest.mark.parametrize(("quota", "cpus"), [("-1", None), ("400000", 4)])
def test_processors_of_version_one(quota: str, cpus: int | None) -> None:
    folder = "cpu,cpuacct"
    files = {f"{folder}__cpu.cfs_quota_us": quota, f"{folder}__cpu.cfs_period_us": "100000"}
    assert cpu_limit(version_one(f"3:{folder}:/x", **files)) == cpus

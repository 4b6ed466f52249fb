"""A host's facts together: every vendor asked, nothing raised, nothing asked too early."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.hardware.gather import gather, host_facts
from runner.hardware.gpu import Vendor
from runner.hardware.probe import Output, Platform
from runner.hardware.recorded import RecordedProbe
from tests.hardware.hosts import docker, probe, probe_names

MACHINES = {
    "a100-mig": Vendor.NVIDIA,
    "a100-pair": Vendor.NVIDIA,
    "arc-b580": Vendor.INTEL,
    "ascend-910b3": Vendor.ASCEND,
    "dgx-spark": Vendor.NVIDIA,
    "gtx-1080": Vendor.NVIDIA,
    "intel-mac": None,
    "iris-xe": Vendor.INTEL,
    "jetson-orin": Vendor.NVIDIA,
    "jetson-xavier": Vendor.NVIDIA,
    "m3-max": Vendor.APPLE,
    "mi300x-8": Vendor.AMD,
    "mtt-s4000": Vendor.MTHREADS,
    "nvidia-mismatch": None,
    "radeon-780m": Vendor.AMD,
    "rtx-4090": Vendor.NVIDIA,
    "rx-7900-xtx": Vendor.AMD,
    "strix-halo": Vendor.AMD,
    "virtual-machine": None,
    "wsl": Vendor.NVIDIA,
}


def test_every_recording_is_listed_here() -> None:
    assert probe_names() == sorted(MACHINES)


@pytest.mark.parametrize(("machine", "vendor"), MACHINES.items())
def test_each_machine_has_its_vendors_devices_and_no_others(
    machine: str, vendor: Vendor | None
) -> None:
    facts = gather(probe(machine))
    assert facts.vendors() == ({vendor} if vendor else set())
    assert bool(facts.troubles) == (machine == "nvidia-mismatch")


def test_a_host_with_two_vendors() -> None:
    nvidia, amd = probe("rtx-4090").recording, probe("strix-halo").recording
    both = replace(amd, commands=nvidia.commands)
    assert gather(RecordedProbe(both)).vendors() == {Vendor.NVIDIA, Vendor.AMD}


def test_the_platform() -> None:
    facts = gather(probe("dgx-spark"))
    assert (facts.system, facts.architecture, facts.cpus) == ("linux", "arm64", 20)
    assert gather(probe("rtx-4090")).architecture == "amd64"


def test_a_container_has_what_its_groups_allow() -> None:
    recording = probe("virtual-machine").recording
    limits = {
        "/sys/fs/cgroup/memory/memory.limit_in_bytes": ("1073741824", ""),
        "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": ("100000", ""),
    }
    facts = gather(RecordedProbe(replace(recording, files={**recording.files, **limits})))
    assert (facts.memory, facts.cpus) == (1073741824, 1)


def test_groups_are_those_by_name_and_those_of_the_devices() -> None:
    assert gather(probe("iris-xe")).groups == (44, 109)
    assert gather(probe("rx-7900-xtx")).groups == (44, 992)
    recording = probe("iris-xe").recording
    rooted = replace(recording, groups={}, owners={"/dev/dri/renderD128": 0})
    assert gather(RecordedProbe(rooted)).groups == ()


def test_docker_is_passed_on() -> None:
    assert gather(probe("rtx-4090"), docker("nvidia")).docker == docker("nvidia")


@pytest.mark.parametrize(("desktop", "found"), [(False, ("amd.com/gpu=all",)), (True, ())])
def test_specs_are_read_for_an_engine_that_tells_only_where_they_are(
    desktop: bool, found: tuple[str, ...]
) -> None:
    engine = replace(docker("amd"), cdi=True, cdi_folders=("/etc/cdi",), desktop=desktop)
    recording = probe("rx-7900-xtx").recording
    spec = ('{"kind": "amd.com/gpu", "devices": [{"name": "all"}]}',)
    host = RecordedProbe(
        replace(recording, files={**recording.files, "/etc/cdi/amd.json": spec}),
    )
    facts = gather(host, engine).docker
    assert facts is not None
    assert facts.cdi_devices == found


def test_this_machine() -> None:
    facts = host_facts()
    assert facts.system == sys.platform
    assert facts.memory > 0
    assert facts.cpus > 0
    assert facts.docker is None


@dataclass(frozen=True, slots=True)
class Garbler:
    """A machine whose tools and files answer, but wrongly: cut, doubled, mixed with nonsense."""

    machine: RecordedProbe
    data: st.DataObject

    def platform(self) -> Platform:
        return self.machine.platform()

    def run(self, *command: str) -> Output | None:
        answer = self.machine.run(*command)
        if answer is None and not self.data.draw(st.booleans()):
            return None
        status = self.data.draw(st.sampled_from([0, 1, None]))
        return Output(self.garbled(answer.text if answer else ""), status)

    def read(self, path: str) -> str | None:
        text = self.machine.read(path)
        return None if text is None else self.garbled(text)

    def glob(self, pattern: str) -> tuple[str, ...]:
        odd = self.data.draw(st.sampled_from(["", "x", "9" * 30, "\N{SUPERSCRIPT TWO}"]))
        return (*self.machine.glob(pattern), pattern.replace("*", odd))

    def group(self, name: str) -> int | None:
        return self.machine.group(name)

    def owner(self, path: str) -> int | None:
        return self.machine.owner(path)

    def garbled(self, text: str) -> str:
        end = self.data.draw(st.integers(0, len(text)))
        again = self.data.draw(st.integers(0, len(text)))
        odd = self.data.draw(
            st.sampled_from(
                ["", "\0", "-1", "9" * 40, "\N{SUPERSCRIPT TWO}", "|\n|", "[N/A],", "{"]
            )
        )
        return text[:end] + odd + text[again:]


@settings(
    deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow], database=None
)
@given(st.data())
def test_nothing_that_a_machine_says_is_raised(data: st.DataObject) -> None:
    machine = probe(data.draw(st.sampled_from(sorted(MACHINES))))
    facts = gather(Garbler(machine, data))
    assert all(gpu.memory is None or gpu.memory > 0 for gpu in facts.gpus)
    assert all(gpu.index >= 0 for gpu in facts.gpus)
    assert all(trouble.strip() for trouble in facts.troubles)


QUIET = """
import pkgutil, sys
asked = []
def watch(event, details):
    place = str(details[0]) if details else ""
    if event in ("subprocess.Popen", "os.fork", "os.posix_spawn"):
        asked.append((event, place))
    if event in ("open", "os.listdir") and place.startswith(("/sys/", "/dev/dri", "/dev/kfd")):
        asked.append((event, place))
sys.addaudithook(watch)
import runner.hardware
for module in pkgutil.iter_modules(runner.hardware.__path__, "runner.hardware."):
    __import__(module.name)
assert not asked, asked
runner.hardware.gather.host_facts()
assert asked
"""


def test_nothing_is_asked_at_import() -> None:
    subprocess.run([sys.executable, "-c", QUIET], check=True, timeout=60)

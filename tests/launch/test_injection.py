"""Devices in real containers, with CDI specs that stand in for vendors' own.

A spec's edits set a variable and map a harmless device file to a name of its own; Docker Engine
injects them as it would a GPU's. Each run uses names that are on no other machine.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from docker import DockerClient
from docker.errors import NotFound as NoSuchContainer

from runner.dockerhost import DockerHost
from runner.errors import EngineFailed
from runner.hardware.devices import CDI_KINDS, Way, chosen, missing, way_in
from runner.hardware.gpu import ACCELERATORS, Gpu, Vendor
from runner.hardware.host import HostFacts
from runner.launch.container import container_name
from runner.launch.devicefiles import HostPath
from runner.launch.devices import (
    GIB,
    NO_DEVICES,
    DeviceRequest,
    Devices,
    grant,
)
from runner.launch.docker import DockerLauncher
from tests.launch.conftest import MakeSpec

pytestmark = pytest.mark.docker

SPECS = Path("/etc/cdi")
PROBE = "/probe/probe.py"
GROUPS = (4711, 4712)
KMSG = "/dev/kmsg"
"""A device file that no ordinary container has."""

Results = dict[str, str]
Run = Callable[[Devices, Sequence[str]], Results]


@dataclass(frozen=True)
class Cards:
    """Two stand-ins of one vendor on this host."""

    run: str
    host: HostFacts

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        return self.host.gpus

    def node(self, number: int) -> str:
        return f"/dev/card-{self.run}-{number}"

    def seen(self, number: int) -> tuple[str, ...]:
        """Probes that get through where the card was injected."""
        node = self.node(number)
        return (f"device={node}", f"read={node}", f"variable=CARD_{self.run}_{number}=in")


def spec(kind: str, cards: dict[str, str], run: str) -> str:
    devices = [
        {
            "name": name,
            "containerEdits": {
                "env": [f"CARD_{run}_{number}=in"],
                "deviceNodes": [{"path": node, "hostPath": "/dev/null"}],
            },
        }
        for number, (name, node) in enumerate(cards.items())
    ]
    return json.dumps({"cdiVersion": "0.6.0", "kind": kind, "devices": devices})


@pytest.fixture(params=[Vendor.NVIDIA, Vendor.AMD, Vendor.INTEL, Vendor.ASCEND])
def cards(request: pytest.FixtureRequest, docker_host: DockerHost) -> Iterator[Cards]:
    if os.geteuid() != 0:
        pytest.skip("only root may write CDI specs")
    vendor: Vendor = request.param
    run = uuid.uuid4().hex[:8]
    gpus = tuple(Gpu(vendor, 9000 + n, uuid=f"GPU-{run}-{n}") for n in range(2))
    nodes = {gpu.uuid: f"/dev/card-{run}-{n}" for n, gpu in enumerate(gpus)}
    file = SPECS / f"runner-test-{run}.json"
    made = not SPECS.exists()
    SPECS.mkdir(exist_ok=True)
    try:
        file.write_text(spec(CDI_KINDS[vendor], nodes, run))
        facts = docker_host.facts()
        yield Cards(run, HostFacts("linux", "amd64", GIB, 1, gpus, facts, GROUPS))
    finally:
        file.unlink()
        if made:
            SPECS.rmdir()


@pytest.fixture
def run(launcher: DockerLauncher, make_spec: MakeSpec, probe_image: str) -> Run:
    def probe(devices: Devices, probes: Sequence[str]) -> Results:
        instance = replace(make_spec(probe_image, PROBE, *probes), devices=devices)
        name = instance.identity.instance
        launcher.start(instance)
        try:
            launcher.wait(name)
            results: Results = json.loads(launcher.logs(name, tail=1)[0])
        finally:
            launcher.stop(name, grace_s=0)
        return results

    return probe


def granted(cards: Cards, *wanted: str, tensor_parallel: bool = False) -> Devices:
    gpus = chosen(cards.gpus, wanted)
    accelerator = ACCELERATORS[cards.gpus[0].vendor]
    return grant(accelerator, gpus, cards.host, tensor_parallel=tensor_parallel)


def through(results: Results, probes: Sequence[str]) -> list[str]:
    return [probe for probe in probes if results[probe] == "yes"]


def test_all_devices_are_inside(cards: Cards, run: Run) -> None:
    vendor = cards.gpus[0].vendor
    assert way_in(vendor, cards.gpus, cards.host) is Way.CDI
    assert missing(ACCELERATORS[vendor], cards.host) is None
    devices = granted(cards, tensor_parallel=True)
    probes = [*cards.seen(0), *cards.seen(1), f"room=/dev/shm:{3 * GIB}"]
    probes += [f"variable={name}={value}" for name, value in devices.environment.items()]
    probes += [f"group={number}" for number in devices.group_add]
    assert devices.environment
    assert devices.group_add == (() if vendor is Vendor.NVIDIA else GROUPS)
    assert through(run(devices, probes), probes) == probes


def test_the_chosen_one_alone_is_inside(cards: Cards, run: Run) -> None:
    probes = [*cards.seen(0), *cards.seen(1)]
    devices = granted(cards, cards.gpus[1].uuid)
    assert through(run(devices, probes), probes) == list(cards.seen(1))
    devices = granted(cards, str(cards.gpus[0].index))
    assert through(run(devices, probes), probes) == list(cards.seen(0))


def test_without_a_grant_nothing_is_inside(cards: Cards, run: Run) -> None:
    probes = [*cards.seen(0), f"group={GROUPS[0]}", f"room=/dev/shm:{3 * GIB}"]
    assert through(run(NO_DEVICES, probes), probes) == []


def test_a_device_brings_no_other_right(cards: Cards, run: Run) -> None:
    probes = ["capabilities", "new_privileges", "root", "make_device=/tmp/null", "interfaces"]
    probes += ["write=/", "write=/model", "execute_in=/tmp", f"device={KMSG}"]
    results = run(granted(cards), [*probes, *cards.seen(0)])
    assert through(results, probes) == []
    assert through(results, cards.seen(0)) == list(cards.seen(0))


def test_a_device_file_of_the_host(run: Run) -> None:
    """As ROCm's and Intel's are given."""
    probes = [f"device={KMSG}"]
    assert through(run(Devices(nodes=(HostPath(KMSG),)), probes), probes) == probes


def test_files_of_a_driver_are_read_only(run: Run, folder: Path) -> None:
    driver = folder / "driver"
    driver.mkdir(mode=0o777)
    driver.chmod(0o777)
    (driver / "library").write_text("code")
    probes = [f"read={driver}/library", f"write={driver}"]
    mounts = (HostPath(str(driver)), HostPath(str(folder / "nothing"), optional=True))
    results = run(Devices(mounts=mounts), probes)
    assert through(results, probes) == probes[:1]
    assert "Read-only file system" in results[probes[1]]


# Failed starts

NO_SUCH_NODE = "/dev/dri/renderD999"


@pytest.mark.parametrize("way", ["launcher", "publishing"])
@pytest.mark.parametrize(
    ("devices", "said", "hint"),
    [
        (
            Devices((DeviceRequest("cdi", ("nvidia.com/gpu=no-such-card",)),)),
            "unresolvable CDI devices nvidia.com/gpu=no-such-card",
            "nvidia-ctk cdi generate",
        ),
        (
            Devices((DeviceRequest("nvidia", ("GPU-no-such-card",), (("gpu",),)),)),
            "could not select device driver|nvidia-container-cli",
            "nvidia-",
        ),
        (Devices(runtime="mthreads"), "invalid runtime name: mthreads", "mt-container-toolkit"),
        (Devices(nodes=(HostPath(NO_SUCH_NODE),)), "no such file", "ls /dev/dri"),
        (
            Devices(mounts=(HostPath("/usr/local/Ascend/driver/no-such-file"),)),
            "bind source path does not exist",
            "npu-smi",
        ),
    ],
)
def test_what_is_not_there_is_told_with_the_next_step(
    way: str,
    devices: Devices,
    said: str,
    hint: str,
    request: pytest.FixtureRequest,
    make_spec: MakeSpec,
    probe_image: str,
    docker_client: DockerClient,
) -> None:
    launcher: DockerLauncher = request.getfixturevalue(way)
    instance = replace(make_spec(probe_image, PROBE), devices=devices)
    with pytest.raises(EngineFailed, match=said) as caught:
        launcher.start(instance)
    assert caught.value.message.startswith("llama.cpp did not start: ")
    assert hint in caught.value.hint
    name = container_name(instance.identity.instance)
    with pytest.raises(NoSuchContainer):
        docker_client.containers.get(name)
    assert docker_client.networks.list(names=[name]) == []
    assert not instance.folders.run.exists()
    assert not instance.folders.cache.exists()

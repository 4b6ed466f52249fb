"""The pure step from an instance to its container: every rule, without a Docker Engine."""

from __future__ import annotations

from dataclasses import replace

from runner.engines.base import TcpEndpoint, UnixEndpoint
from runner.launch.container import create_arguments, listens_on
from runner.launch.devicefiles import HostPath
from runner.launch.devices import DeviceRequest, Devices
from runner.launch.labels import from_labels, to_labels
from tests.launch.conftest import MIB, MakeSpec


def test_without_a_network(make_spec: MakeSpec) -> None:
    spec = make_spec("sha256:abc", "--model", "/model/weights", memory=512)
    made = create_arguments(spec, home_id="home", user="10001:10001", network=None)
    assert made["name"] == f"runner-{spec.identity.instance}"
    assert made["image"] == "sha256:abc"
    assert made["command"] == ["--model", "/model/weights"]
    assert made["network_mode"] == "none"
    assert made["ports"] == {}
    assert made["user"] == "10001:10001"
    assert made["cap_drop"] == ["ALL"]
    assert made["security_opt"] == ["no-new-privileges:true"]
    assert made["read_only"] is True
    assert made["tmpfs"] == {"/tmp": "rw,noexec,nosuid,nodev,size=256m,mode=1777"}
    assert made["ipc_mode"] == "private"
    assert made["mem_limit"] == made["memswap_limit"] == 512 * MIB
    assert made["pids_limit"] == 4096
    assert made["init"] is True
    assert made["log_config"]["Type"] == "json-file"
    assert made["log_config"]["Config"] == {"max-size": "10m", "max-file": "3"}
    mounts = {mount["Target"]: (mount["Source"], mount["ReadOnly"]) for mount in made["mounts"]}
    assert mounts == {
        "/model": (str(spec.folders.model), True),
        "/cache": (str(spec.folders.cache), False),
        "/run/engine": (str(spec.folders.run), False),
    }


def test_nothing_else_is_asked_for(make_spec: MakeSpec) -> None:
    """No key for privileges, other namespaces or restarts has come in, and no device unasked."""
    made = create_arguments(make_spec("image"), home_id="home", user="1:1", network=None)
    assert {"privileged", "cap_add", "pid_mode", "restart_policy"}.isdisjoint(made)
    assert made["devices"] == []
    assert made["device_requests"] == []
    assert made["group_add"] == []
    assert made["runtime"] is None
    assert made["shm_size"] is None


def test_memory_may_be_locked_only_where_it_was_asked_for(make_spec: MakeSpec) -> None:
    plain = make_spec("image")
    made = create_arguments(plain, home_id="home", user="1:1", network=None)
    assert made["ulimits"] == []
    locking = replace(plain, locks_memory=True)
    made = create_arguments(locking, home_id="home", user="1:1", network=None)
    (limit,) = made["ulimits"]
    assert (limit.name, limit.soft, limit.hard) == ("memlock", -1, -1)


def test_just_what_was_granted(make_spec: MakeSpec) -> None:
    devices = Devices(
        device_requests=(DeviceRequest("nvidia", ("GPU-1",), (("gpu",),)),),
        nodes=(HostPath("/dev/kfd"),),
        group_add=(44, 992),
        environment={"CUDA_VISIBLE_DEVICES": "0", "HOME": "/elsewhere", "PROBE": "overruled"},
        runtime="mthreads",
        mounts=(HostPath("/usr/local/Ascend/driver/lib64"),),
        shm_size=2 * MIB,
    )
    spec = replace(make_spec("image"), devices=devices, shm_size=3 * MIB)
    made = create_arguments(spec, home_id="home", user="1:1", network=None)
    (request,) = made["device_requests"]
    assert request["Driver"] == "nvidia"
    assert request["DeviceIDs"] == ["GPU-1"]
    assert request["Capabilities"] == [["gpu"]]
    assert made["devices"] == ["/dev/kfd:/dev/kfd:rw"]
    assert made["group_add"] == [44, 992]
    assert made["runtime"] == "mthreads"
    assert made["shm_size"] == 3 * MIB
    assert made["mem_limit"] == made["memswap_limit"] == spec.memory_bytes + 3 * MIB
    assert made["environment"] == {
        "CUDA_VISIBLE_DEVICES": "0",
        "PROBE": "overruled",
        "HOME": "/cache",
        "XDG_CACHE_HOME": "/cache",
    }
    driver = next(mount for mount in made["mounts"] if "Ascend" in mount["Target"])
    assert driver["Source"] == driver["Target"] == "/usr/local/Ascend/driver/lib64"
    assert driver["ReadOnly"] is True
    assert (made["cap_drop"], made["ipc_mode"], made["read_only"]) == (["ALL"], "private", True)


def test_with_a_network_of_its_own(make_spec: MakeSpec) -> None:
    spec = make_spec("image")
    made = create_arguments(spec, home_id="home", user="1000:1000", network="runner-x")
    assert made["network_mode"] == "runner-x"
    assert made["ports"] == {"8080/tcp": ("127.0.0.1", 0)}
    assert made["dns"] == ["127.0.0.1"]
    assert "/run/engine" not in {mount["Target"] for mount in made["mounts"]}


def test_an_engine_cannot_be_told_another_cache(make_spec: MakeSpec) -> None:
    made = create_arguments(make_spec("image"), home_id="home", user="1:1", network=None)
    assert made["environment"] == {
        "PROBE": "set",
        "HOME": "/cache",
        "XDG_CACHE_HOME": "/cache",
        "NVIDIA_VISIBLE_DEVICES": "void",
    }


def test_where_the_engine_listens() -> None:
    assert listens_on(published=False) == UnixEndpoint("/run/engine/engine.sock")
    assert listens_on(published=True) == TcpEndpoint("0.0.0.0", 8080)


def test_labels_hold_the_whole_identity(make_spec: MakeSpec) -> None:
    spec = make_spec("image")
    labels = to_labels("home", spec.identity, spec.folders)
    assert labels["io.runner.home"] == "home"
    assert labels["io.runner.mode"] == "completion"
    found = from_labels(labels)
    assert found is not None
    assert (found.identity, found.folders) == (spec.identity, spec.folders)


def test_labels_of_another_version_are_not_read(make_spec: MakeSpec) -> None:
    spec = make_spec("image")
    labels = to_labels("home", spec.identity, spec.folders)
    assert from_labels({**labels, "io.runner.mode": "telepathy"}) is None
    assert from_labels({**labels, "io.runner.context": "many"}) is None
    assert from_labels({"io.runner.home": "home"}) is None

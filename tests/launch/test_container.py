"""The pure step from an instance to its container: every rule, without a Docker Engine."""

from __future__ import annotations

from runner.engines.base import TcpEndpoint, UnixEndpoint
from runner.launch.container import create_arguments, listens_on
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
    """No key for privileges, devices, other namespaces or restarts has come in."""
    made = create_arguments(make_spec("image"), home_id="home", user="1:1", network=None)
    assert {"privileged", "devices", "cap_add", "pid_mode", "restart_policy"}.isdisjoint(made)


def test_with_a_network_of_its_own(make_spec: MakeSpec) -> None:
    spec = make_spec("image")
    made = create_arguments(spec, home_id="home", user="1000:1000", network="runner-x")
    assert made["network_mode"] == "runner-x"
    assert made["ports"] == {"8080/tcp": ("127.0.0.1", 0)}
    assert made["dns"] == ["127.0.0.1"]
    assert "/run/engine" not in {mount["Target"] for mount in made["mounts"]}


def test_an_engine_cannot_be_told_another_cache(make_spec: MakeSpec) -> None:
    made = create_arguments(make_spec("image"), home_id="home", user="1:1", network=None)
    assert made["environment"] == {"PROBE": "set", "HOME": "/cache", "XDG_CACHE_HOME": "/cache"}


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

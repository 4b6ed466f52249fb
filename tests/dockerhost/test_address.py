"""Which Docker Engine is meant, and what is said where it can't be used."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from runner.dockerhost import DockerHost
from runner.dockerhost.address import DEFAULT_ADDRESS, check_socket, docker_address
from runner.errors import DockerUnavailable

NOBODY = 65534


def with_context(folder: Path, name: str, host: str, *, current: bool) -> dict[str, str]:
    """A docker configuration folder that knows one context; the environment to use it."""
    meta = folder / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest()
    meta.mkdir(parents=True)
    described = {"Name": name, "Endpoints": {"docker": {"Host": host}}}
    (meta / "meta.json").write_text(json.dumps(described))
    if current:
        (folder / "config.json").write_text(json.dumps({"currentContext": name}))
    return {"DOCKER_CONFIG": str(folder)}


def test_the_default_is_the_default_socket(tmp_path: Path) -> None:
    assert docker_address({"HOME": str(tmp_path)}) == DEFAULT_ADDRESS


def test_a_broken_configuration_means_the_default(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    assert docker_address({"DOCKER_CONFIG": str(tmp_path)}) == DEFAULT_ADDRESS


def test_the_current_context_counts(tmp_path: Path) -> None:
    environment = with_context(tmp_path, "desktop", "unix:///home/x/docker.sock", current=True)
    assert docker_address(environment) == "unix:///home/x/docker.sock"


def test_a_named_context_counts_more(tmp_path: Path) -> None:
    environment = with_context(tmp_path, "lab", "unix:///lab.sock", current=False)
    assert docker_address({**environment, "DOCKER_CONTEXT": "lab"}) == "unix:///lab.sock"
    assert docker_address({**environment, "DOCKER_CONTEXT": "default"}) == DEFAULT_ADDRESS


def test_docker_host_counts_most(tmp_path: Path) -> None:
    environment = with_context(tmp_path, "lab", "unix:///lab.sock", current=True)
    assert docker_address({**environment, "DOCKER_HOST": "unix:///x.sock"}) == "unix:///x.sock"


def test_a_context_that_is_not_there_is_named() -> None:
    with pytest.raises(DockerUnavailable, match="'lab'"):
        docker_address({"DOCKER_CONTEXT": "lab", "DOCKER_CONFIG": "/nonexistent"})


@pytest.mark.parametrize("host", ["tcp://192.0.2.1:2375", "ssh://me@example", "tcp://127.0.0.1:1"])
def test_remote_hosts_are_refused(host: str, tmp_path: Path) -> None:
    reason = "remote Docker hosts are not supported yet"
    with pytest.raises(DockerUnavailable, match=reason):
        DockerHost({"DOCKER_HOST": host}).facts()
    with pytest.raises(DockerUnavailable, match=reason):
        DockerHost(with_context(tmp_path, "far", host, current=True)).facts()


def test_no_answer_says_how_to_start_docker(tmp_path: Path) -> None:
    host = DockerHost({"DOCKER_HOST": f"unix://{tmp_path}/docker.sock"})
    with pytest.raises(DockerUnavailable, match="No such file or directory") as caught:
        host.facts()
    assert "start Docker" in caught.value.hint


def test_a_socket_that_nobody_listens_on_is_told(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    with pytest.raises(DockerUnavailable, match="Connection refused"):
        check_socket(f"unix://{path}")


def test_no_permission_says_how_to_get_it(session_folder: Path) -> None:
    path = session_folder / "forbidden.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        path.chmod(0)
        with ordinary_user(), pytest.raises(DockerUnavailable, match="no permission") as caught:
            check_socket(f"unix://{path}")
    assert "usermod -aG docker" in caught.value.hint


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Root may connect to everything, so it steps down for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_something_else_on_the_socket_is_told(session_folder: Path) -> None:
    path = session_folder / "other.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=talk_nonsense, args=(listener, 2))
        thread.start()
        with pytest.raises(DockerUnavailable, match="is not Docker"):
            DockerHost({"DOCKER_HOST": f"unix://{path}"}).facts()
        thread.join()


def talk_nonsense(listener: socket.socket, times: int) -> None:
    for _ in range(times):
        connection, _ = listener.accept()
        with connection, suppress(BrokenPipeError):
            connection.sendall(b"220 mail.example ESMTP\r\n")
            connection.shutdown(socket.SHUT_WR)

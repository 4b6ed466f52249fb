"""The commands that speak to registries, against one that this repository brings."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.demo import gguf_path
from tests.cli.terminal import on_a_terminal
from tests.registry.server import PASSWORD, USER, Handler, Registry, digest_of, running
from tests.support.program import DEADLINE_S, Completed, runner, succeed


@pytest.fixture
def docker_config(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = home / "docker"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    return folder / "config.json"


@pytest.fixture
def server(docker_config: Path) -> Iterator[Registry]:
    """A registry with accounts, and no daemon at the end."""
    with running(Registry(auth="bearer", anonymous=False)) as registry:
        yield registry
        succeed("stop-runner")


def log_in(server: Registry, password: str = PASSWORD) -> Completed:
    return runner("login", server.address, "-u", USER, "--password-stdin", stdin=f"{password}\n")


def logged_in(docker_config: Path) -> list[str]:
    return list(json.loads(docker_config.read_text()).get("auths", {}))


def test_what_is_no_registry_is_told_before_a_password_is_asked_for(docker_config: Path) -> None:
    done = runner("login", "hf.co")
    assert "hf.co is a model hub, not a registry. Next: set HF_TOKEN" in done.stderr
    assert not docker_config.exists()


def test_an_id_names_no_registry(home: Path) -> None:
    done = runner("inspect", "--remote", "c66b41d8a5f7")
    assert "c66b41d8a5f7 is an ID, which names no registry. Next: give one of" in done.stderr
    assert home.is_dir()


def test_login_asks_the_registry_first(server: Registry, docker_config: Path) -> None:
    refused = log_in(server, "wrong")
    assert refused.returncode == 9
    assert "refuses the login" in refused.stderr
    assert not docker_config.exists()
    assert log_in(server).returncode == 0
    assert logged_in(docker_config) == [server.address]
    left = f"{server.address}: it asks for a login\n"
    assert f"logged out of {left}" in runner("logout", server.address).stderr
    assert logged_in(docker_config) == []
    assert f"not logged in to {left}" in runner("logout", server.address).stderr


def test_logout_says_whether_the_registry_still_lets_us_in(docker_config: Path) -> None:
    with running(Registry()) as registry:
        said = runner("logout", registry.address).stderr
        assert f"{registry.address}: it answers without a login" in said
    said = runner("logout", "localhost:1").stderr
    assert "localhost:1: it can't be reached now" in said


def test_a_password_is_not_shown_on_a_terminal(server: Registry, docker_config: Path) -> None:
    screen = on_a_terminal(["login", server.address], [USER, PASSWORD], prompt=": ")
    assert f"logged in to {server.address} as {USER}" in screen
    assert PASSWORD not in screen
    assert logged_in(docker_config) == [server.address]


def test_login_without_a_terminal_needs_its_words(server: Registry) -> None:
    for arguments, said in (([], "-u NAME"), (["-u", USER], "--password-stdin")):
        refused = runner("login", server.address, *arguments)
        assert refused.returncode == 2
        assert said in refused.stderr


def test_package_push_pull_as_written(
    server: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.gguf").write_bytes(gguf_path().read_bytes())
    name = f"{server.address}/myorg/mymodel:F16"
    refused = runner("package", "--gguf", "./model.gguf", "--push", name)
    assert refused.returncode == 9
    assert f"runner login {server.address}" in refused.stderr
    log_in(server)
    digest = succeed("package", "--gguf", "./model.gguf", "--push", name).strip()
    assert digest_of(server.manifests["myorg/mymodel/F16"]) == digest
    succeed("rm", name)
    assert succeed("pull", name).strip() == digest
    assert succeed("push", name).strip() == digest
    assert json.loads(succeed("inspect", "--remote", name))["id"] == digest
    assert json.loads(succeed("pull", "--json", f"{name[:-4]}@{digest}")) == {"id": digest}


def test_a_safetensors_folder_is_packaged_and_pushed_as_written(
    server: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama", "architectures": ["Llama"]}')
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    (folder / "model.safetensors").write_bytes(
        len(header).to_bytes(8, "little") + header + bytes(8)
    )
    log_in(server)
    name = f"{server.address}/myorg/mymodel-vllm"
    digest = succeed("package", "--safetensors", "./model/", "--push", name).strip()
    assert digest_of(server.manifests["myorg/mymodel-vllm/latest"]) == digest


def test_search_lists_a_registrys_models(server: Registry) -> None:
    log_in(server)
    name = f"{server.address}/team/tiny:F16"
    succeed("package", "--gguf", str(gguf_path()), "--push", name)
    arguments = ("search", "--source", "registry", "--registry", server.address)
    assert succeed(*arguments, "tin").splitlines() == ["NAME", name]
    assert json.loads(succeed(*arguments, "--json"))[0]["name"] == name
    assert "nothing is called 'zebra'" in runner(*arguments, "zebra").stderr
    assert runner("search", "--source", "nowhere").returncode == 2


def test_a_stopped_pull_says_how_to_go_on(server: Registry) -> None:
    log_in(server)
    name = f"{server.address}/a/b:1"
    digest = succeed("package", "--gguf", str(gguf_path()), "--push", name).strip()
    succeed("rm", name)
    asked, go_on = threading.Event(), threading.Event()

    def wait(handler: Handler) -> bool:
        asked.set()
        assert go_on.wait(DEADLINE_S)
        return False

    server.lasting.append((f"GET .*/blobs/{re.escape(_weights())}", wait))
    process = subprocess.Popen(
        [sys.executable, "-m", "runner", "pull", name], stderr=subprocess.PIPE, text=True
    )
    assert asked.wait(DEADLINE_S)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=DEADLINE_S)
    go_on.set()
    server.lasting.clear()
    assert process.returncode == 130
    assert f"`runner pull {name}` goes on from here" in said
    assert succeed("pull", name).strip() == digest


def test_a_stopped_push_says_that_nothing_was_published(server: Registry) -> None:
    log_in(server)
    name = f"{server.address}/a/b:1"
    asked, go_on = threading.Event(), threading.Event()

    def wait(handler: Handler) -> bool:
        asked.set()
        assert go_on.wait(DEADLINE_S)
        return False

    server.lasting.append(("(POST|PATCH|PUT) .*/blobs/uploads/", wait))
    command = ["package", "--gguf", str(gguf_path()), "--push", name]
    process = subprocess.Popen(
        [sys.executable, "-m", "runner", *command], stderr=subprocess.PIPE, text=True
    )
    assert asked.wait(DEADLINE_S)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=DEADLINE_S)
    go_on.set()
    server.lasting.clear()
    assert process.returncode == 130
    assert f"stopped; nothing was published; `runner push {name}` sends it again" in said
    assert server.manifests == {}
    succeed("push", name)


def test_an_empty_password_says_how_to_pipe_one(home: Path) -> None:
    refused = runner("login", "localhost:1", "-u", USER, "--password-stdin", stdin="\n")
    assert refused.returncode == 2
    assert "--password-stdin" in refused.stderr


def _weights() -> str:
    return digest_of(gguf_path().read_bytes())


def test_progress_is_shown_on_a_terminal_and_leaves_it_clean(server: Registry) -> None:
    log_in(server)
    name = f"{server.address}/a/b:1"
    succeed("package", "--gguf", str(gguf_path()), "--push", name)
    succeed("rm", name)
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "runner", "pull", name],
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=slave,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
        text=True,
    )
    os.close(slave)
    digest, _ = process.communicate(timeout=DEADLINE_S)
    screen = b""
    while chunk := _read(master):
        screen += chunk
    os.close(master)
    assert digest.startswith("sha256:")
    assert b"total" in screen
    assert b"2.6 MB of 2.6 MB" in screen
    last = screen.decode().splitlines()[-1]
    assert "Pulled" in last


def _read(master: int) -> bytes:
    """Nothing once the program has closed the terminal."""
    try:
        return os.read(master, 4096)
    except OSError:
        return b""

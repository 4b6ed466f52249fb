"""The README's commands with containers, on a real registry and a real Docker Engine."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pytest import MonkeyPatch

from runner.demo import Quantization, gguf_path, questions
from runner.demo.oracle import mismatches
from runner.home import Home
from tests.support.images import ROOT, build_settings
from tests.support.ports import free_port
from tests.support.program import Daemon, chat_body, daemon, runner, succeed, until
from tests.support.tools import tool

if TYPE_CHECKING:
    from docker import DockerClient

FIRST = questions()[0]


@pytest.fixture
def building(base_image: str, engine_image: str, monkeypatch: MonkeyPatch) -> None:
    """Builds find what this machine has; BuildKit's cache has the rest of the engine image."""
    settings = build_settings(base_image)
    monkeypatch.setenv("RUNNER_BUILD_CONTEXTS", json.dumps(settings.build_contexts))
    secrets = {name: str(path) for name, path in settings.build_secrets.items()}
    monkeypatch.setenv("RUNNER_BUILD_SECRETS", json.dumps(secrets))
    if settings.ca_file is not None:
        monkeypatch.setenv("RUNNER_CA_FILE", str(settings.ca_file))


@pytest.fixture
def model(registry: str) -> str:
    return f"{registry}/demo:1"


@pytest.fixture
def running(home: Path, building: None, model: str) -> Iterator[Daemon]:
    """A daemon with llama.cpp's image installed and the demo model in its store."""
    succeed("package", "--gguf", str(gguf_path()), model)
    with daemon(home) as found:
        succeed("install-runner", "--backend", "llama.cpp", "--gpu", "none")
        yield found


def _containers(client: DockerClient, home: Path) -> list[str]:
    label = f"io.runner.home={Home(home).identity}"
    return [str(found.id) for found in client.containers.list(all=True, filters={"label": label})]


def _readme_commands(registry: str, port: str) -> list[str]:
    """The commands of the README's container section, with the test's registry and port."""
    text = (ROOT / "README.md").read_text().split("## The same with containers")[1]
    block = re.search(r"```sh\n(.*?)```", text, re.S)
    assert block is not None
    script = (
        block[1].replace("localhost:5000", registry).replace("localhost:12434", f"localhost:{port}")
    )
    commands = []
    for line in re.sub(r"'[^']*'", lambda found: found[0].replace("\n", " "), script).splitlines():
        bare = re.sub(r"\s{2,}#.*$", "", line).strip()
        commands += [part.strip() for part in bare.split(" ; ")]
    return [command for command in commands if command and command != "make registry"]


def test_the_readme_works_as_written(
    home: Path,
    building: None,
    registry: str,
    docker_client: DockerClient,
    monkeypatch: MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    said: dict[str, str] = {}
    try:
        for command in _readme_commands(registry, os.environ["RUNNER_PORT"]):
            program, *arguments = shlex.split(command)
            if program == "runner":
                said[arguments[0]] = succeed(*arguments, stdin="")
            else:
                assert program == "curl"
                done = subprocess.run(
                    ["curl", "-sS", *arguments], capture_output=True, text=True, check=True
                )
                said[program] = done.stdout
    finally:
        succeed("stop-runner")
    answer = next(known.answer for known in questions() if known.question == "What is an engine?")
    assert said["run"] == f"{answer}\n"
    assert f"{registry}/demo:1" in said["ps"]
    assert "container" in said["status"]
    assert said["unload"] == "Unloaded 1 model.\n"
    pieces = re.findall(r'"content":"((?:[^"\\]|\\.)*)"', said["curl"])
    assert "".join(pieces) == answer
    assert said["curl"].rstrip().endswith("data: [DONE]")
    assert "uninstalled llama.cpp/cpu" in said["uninstall-runner"]
    assert _containers(docker_client, home) == []


@pytest.mark.parametrize("quantization", list(Quantization))
def test_all_questions_through_a_container(
    running: Daemon, registry: str, quantization: Quantization
) -> None:
    name = f"{registry}/demo:{quantization.value.lower()}"
    succeed("package", "--gguf", str(gguf_path(quantization)), name)
    whole = {q.question: running.chat(name, q.question, engine="llama.cpp") for q in questions()}
    assert not mismatches(whole)
    streamed = {q.question: running.stream(name, q.question) for q in questions()}
    assert not mismatches(streamed)


def test_engines_survive_restarts_of_the_daemon(
    running: Daemon, model: str, docker_client: DockerClient
) -> None:
    home = running.socket.parent.parent
    assert running.chat(model, FIRST.question) == FIRST.answer
    (before,) = _containers(docker_client, home)
    for how in (signal.SIGTERM, signal.SIGKILL):
        if running.process.poll() is None:
            running.end(how)
        with daemon(home) as again:
            (adopted,) = again.instances()
            assert adopted["phase"] == "ready"
            assert again.chat(model, FIRST.question) == FIRST.answer
            assert _containers(docker_client, home) == [before]
            again.end(how)
        assert _containers(docker_client, home) == [before]
    with daemon(home) as last:
        assert last.end(signal.SIGINT) == 0
    assert _containers(docker_client, home) == []


def test_restart_runner_keeps_the_container(
    home: Path, building: None, model: str, docker_client: DockerClient
) -> None:
    succeed("package", "--gguf", str(gguf_path()), model)
    try:
        succeed("install-runner", "--gpu", "none")
        succeed("run", model, FIRST.question)
        before = _containers(docker_client, home)
        succeed("restart-runner")
        assert _containers(docker_client, home) == before
        assert succeed("run", model, FIRST.question) == f"{FIRST.answer}\n"
        assert _containers(docker_client, home) == before
    finally:
        succeed("stop-runner")
    assert _containers(docker_client, home) == []


def test_an_install_is_recorded_and_a_second_one_instant(running: Daemon) -> None:
    first = json.loads(succeed("install-runner", "--json", "--gpu", "none"))
    assert first["source"] == "built"
    assert first["config_digest"].startswith("sha256:")
    assert first["diff_ids"]
    again = runner("install-runner", "--gpu", "none")
    assert "installed already" in again.stdout
    assert "[build" not in again.stderr


def test_an_image_is_pulled_where_a_registry_has_it(
    running: Daemon,
    registry: str,
    engine_image: str,
    docker_client: DockerClient,
    session_folder: Path,
) -> None:
    version = json.loads(succeed("install-runner", "--json"))["version"]
    target = f"{registry}/engines/llama.cpp"
    docker_client.images.get(engine_image).tag(target, tag=f"{version}-cpu")
    try:
        for line in docker_client.images.push(target, f"{version}-cpu", stream=True, decode=True):
            assert "error" not in line, line
        docker_client.images.remove(f"{target}:{version}-cpu")
        variables = {
            "RUNNER_HOME": str(session_folder / "pulling"),
            "RUNNER_PORT": str(free_port()),
            "RUNNER_IMAGE_REGISTRY": f"{registry}/engines",
        }
        with daemon(session_folder / "pulling", env=variables):
            found = json.loads(succeed("install-runner", "--json", "--gpu", "none", env=variables))
        assert found["source"] == f"{target}:{version}-cpu"
        assert found["manifest_digest"].startswith("sha256:")
        crane = [tool("crane"), "digest", "--insecure", f"{target}:{version}-cpu"]
        digest = subprocess.run(crane, capture_output=True, text=True, check=True).stdout.strip()
        assert found["manifest_digest"] == digest
    finally:
        docker_client.images.remove(f"{target}:{version}-cpu", force=True)


def test_a_lost_image_is_told_with_the_next_step(
    running: Daemon, model: str, docker_client: DockerClient
) -> None:
    from dataclasses import replace

    from runner.state import State

    state = State(Home(running.socket.parent.parent).state_file)
    (install,) = state.installs()
    state.record(replace(install, image=f"sha256:{'0' * 64}"))
    with running.http() as client:
        response = client.post("/v1/chat/completions", json=chat_body(model, "x"))
    assert response.status_code == 412
    error = response.json()["error"]
    assert error["code"] == "engine_not_installed"
    assert "install-runner" in error["hint"]


def test_a_container_that_dies_mid_stream_ends_the_stream_as_a_failure(
    running: Daemon, model: str, docker_client: DockerClient
) -> None:
    import httpx

    running.chat(model, FIRST.question)
    (container,) = _containers(docker_client, running.socket.parent.parent)
    body = {
        **chat_body(model, "Tell me everything"),
        "stream": True,
        "ignore_eos": True,
        "max_tokens": 100_000,
    }
    lines: list[str] = []
    with (
        running.http() as client,
        pytest.raises(httpx.RemoteProtocolError),
        client.stream("POST", "/v1/chat/completions", json=body) as response,
    ):
        for line in response.iter_lines():
            if not lines:
                docker_client.containers.get(container).kill()
            lines.append(line)
    told = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert told[-1]["error"]["code"] == "engine_failed"
    assert "data: [DONE]" not in lines
    until(lambda: running.instances() == [], "the end was noticed")
    assert running.chat(model, FIRST.question) == FIRST.answer


def test_stop_runner_stops_containers(
    running: Daemon, model: str, docker_client: DockerClient
) -> None:
    running.chat(model, FIRST.question)
    succeed("stop-runner")
    assert _containers(docker_client, running.socket.parent.parent) == []
    assert running.process.wait(10) == 0


def test_uninstalling_in_one_home_leaves_the_other_homes_engine(
    running: Daemon, model: str, session_folder: Path
) -> None:
    other = {"RUNNER_HOME": str(session_folder / "second"), "RUNNER_PORT": str(free_port())}
    with daemon(session_folder / "second", env=other):
        succeed("install-runner", "--gpu", "none", env=other)
        succeed("uninstall-runner", env=other)
    assert running.chat(model, FIRST.question, engine="llama.cpp") == FIRST.answer


def test_an_uninstall_that_is_refused_unloads_nothing(running: Daemon, model: str) -> None:
    running.chat(model, FIRST.question)
    refused = runner("uninstall-runner", "--gpu", "cuda")
    assert refused.returncode == 5
    assert "not installed" in refused.stderr
    assert [found["phase"] for found in running.instances()] == ["ready"]

"""docs/custom-engines.md: its examples work as they stand, and what they break is themselves."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runner.demo import gguf_path, questions
from runner.home import Home
from tests.docs.examples import run_all, section
from tests.launch.images import probe_image
from tests.support.plugin import write_package
from tests.support.program import daemon, runner, succeed

if TYPE_CHECKING:
    from docker import DockerClient

PAGE = "custom-engines.md"
MAKERS_IMAGE = "ghcr.io/ggml-org/llama.cpp:server-b11312"
MODEL = "localhost:5000/demo:1"
KNOWN = next(known for known in questions() if known.question == "What is an engine?")


@pytest.fixture
def ending(home: Path) -> Iterator[Path]:
    """The home of a daemon that the commands start, and that is ended here."""
    yield home
    succeed("stop-runner")


def content(answer: str) -> str:
    text = json.loads(answer)["choices"][0]["message"]["content"]
    assert isinstance(text, str)
    return text


def row(table: str, engine: str) -> str:
    (found,) = [line for line in table.splitlines() if line.split()[:1] == [engine]]
    return found


@pytest.mark.docker
def test_a_folder_is_an_engine(
    ending: Path, engine_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the test's own llama.cpp, in place of the maker's image."""
    contexts = {MAKERS_IMAGE: f"docker-image://{engine_image}"}
    monkeypatch.setenv("RUNNER_BUILD_CONTEXTS", json.dumps(contexts))
    shown = section(PAGE, "A folder")
    shown.write_files(Home(ending).root)
    said = run_all(shown, os.environ["RUNNER_PORT"])
    assert "available" in row(said["runner engines"], "my-llama")
    assert "user" in row(said["runner engines"], "my-llama")
    assert said["runner run"] == f"{KNOWN.answer}\n"
    assert content(said["curl"]) == KNOWN.answer
    assert "uninstalled my-llama/cpu" in said["runner uninstall-runner"]


@pytest.mark.docker
def test_a_ready_image_needs_no_labels(ending: Path, engine_image: str) -> None:
    """The same engine, with `image` in place of the Dockerfile; it stays when it is uninstalled."""
    section(PAGE, "A folder").write_files(ending)
    file = ending / "engines.d" / "my-llama" / "engine.yaml"
    (file.parent / "Dockerfile").unlink()
    file.write_text(f"{file.read_text()}    image: {engine_image}\n")
    succeed("restart-runner")
    succeed("install-runner", "--backend", "my-llama", "--gpu", "none")
    answer = succeed("run", "--backend", "my-llama", "runner/demo", KNOWN.question)
    assert answer == f"{KNOWN.answer}\n"
    succeed("uninstall-runner", "--backend", "my-llama")
    succeed("install-runner", "--backend", "my-llama", "--gpu", "none")


SERVER = """\
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.do_POST()

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        told = json.dumps([sys.argv[1:], os.environ["LEVEL"], os.getuid()])
        body = json.dumps({"choices": [{"message": {"content": told}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

HTTPServer((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
"""

TINY = """\
schema: 1
name: tiny
formats: [gguf]
modes: [completion]
health_path: /
listens_on_tcp: true
command: [/server.py, "{host}", "{port}", "--threads", "{threads}", "--file={model_file}"]
environment: {LEVEL: low}
variants:
  - {name: cpu, accelerator: cpu, version: "1", platforms: [linux/amd64], form: image}
"""


@pytest.mark.docker
def test_a_server_that_needs_a_port_and_knows_nothing_of_the_runner(
    home: Path, base_image: str, docker_client: DockerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its Dockerfile has no labels and no user; its image gets the one, its container the other.
    Nobody looks for it in the registry of the images that ship."""
    monkeypatch.setenv("RUNNER_IMAGE_REGISTRY", "localhost:1/nowhere")
    folder = home / "engines.d" / "tiny"
    folder.mkdir(parents=True)
    (folder / "engine.yaml").write_text(TINY)
    (folder / "server.py").write_text(SERVER)
    (folder / "Dockerfile").write_text(
        f"FROM {probe_image(base_image)}\nUSER 0\nCOPY --chmod=0644 server.py /\n"
    )
    succeed("package", "--gguf", str(gguf_path()), MODEL)
    with daemon(home) as running:
        succeed("install-runner", "--backend", "tiny", "--gpu", "none")
        succeed("configure", "--backend", "tiny", "--threads", "2", MODEL)
        told, level, user = json.loads(running.chat(MODEL, "hello", engine="tiny"))
        assert told[2:4] == ["--threads", "2"]
        assert told[4].startswith("--file=/model/")
        assert (level, user) == ("low", 10001)
        (name,) = [tag for tag in _tags(docker_client) if tag.startswith("runner/tiny:1-cpu-")]
        labels = docker_client.images.get(name).labels
        assert labels["io.runner.engine"] == "tiny"
        assert labels["io.runner.formats"] == "gguf"
        succeed("uninstall-runner", "--backend", "tiny")
        assert name not in _tags(docker_client)
        assert running.instances() == []


def test_a_python_environment_is_an_engine(home: Path) -> None:
    """Named `form: environment`, with a lock file: a native process, given paths of this host."""
    folder = home / "engines.d" / "tiny"
    (folder / "cpu").mkdir(parents=True)
    (folder / "cpu" / "requirements.txt").write_text("# nothing but Python's own library\n")
    (folder / "server.py").write_text(SERVER)
    text = TINY.replace("/server.py", str(folder / "server.py")).replace("image}", "environment}")
    (folder / "engine.yaml").write_text(text.replace("{model_file}", "{cache}"))
    succeed("package", "--gguf", str(gguf_path()), MODEL)
    with daemon(home) as running:
        succeed("install-runner", "--backend", "tiny", "--gpu", "none")
        told, level, user = json.loads(running.chat(MODEL, "hello", engine="tiny"))
        assert told[0] == "127.0.0.1"
        assert told[2].startswith(f"--file={home / 'cache'}")
        assert (level, user) == ("low", os.getuid())


def _tags(client: DockerClient) -> list[str]:
    return [tag for image in client.images.list() for tag in image.tags]


def test_a_plug_in_is_an_engine(
    ending: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / "packages"
    monkeypatch.setenv("PYTHONPATH", str(packages))
    monkeypatch.chdir(tmp_path)
    shown = section(PAGE, "A plug-in")
    shown.write_files(tmp_path)
    said = run_all(shown, os.environ["RUNNER_PORT"], ["--target", str(packages)])
    assert "entry point" in row(said["runner engines"], "echo")
    assert "plug-in" in row(said["runner engines"], "echo")
    assert said["runner run"] == "Is anybody there?\n"
    assert content(said["curl"]) == "Is anybody there?"
    assert '"POST /v1/chat/completions HTTP/1.1" 200' in said["runner logs"]


def test_a_plug_in_is_watched_explained_and_stopped(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path
    section(PAGE, "A plug-in").write_files(tmp_path)
    source = (tmp_path / "echo-engine" / "echo_engine.py").read_text()
    write_package(packages, "echo-engine", source, "Echo")
    (packages / "echo_engine.py").write_text(source)
    write_package(packages, "broken-engine", "raise SystemExit('I end it all')\n")
    monkeypatch.setenv("PYTHONPATH", str(packages))
    succeed("package", "--gguf", str(gguf_path()), MODEL)
    with daemon(home) as running:
        for number in range(2):
            answer = running.chat(MODEL, f"Hello {number}", engine="echo")
            assert answer == f"Hello {number}"
            (instance,) = running.instances()
            assert instance["launcher"] == "code"
            assert instance["stats"] == {"starts_total": number + 1}
            assert succeed("unload", "--all") == "Unloaded 1 model.\n"
            assert running.instances() == []
        explained = succeed("explain", "--backend", "echo", MODEL)
        assert "echo-engine 1.2 starts it itself" in " ".join(explained.split())
        listed = runner("engines")
        assert listed.returncode == 0
        assert "broken_engine_module:engine" in listed.stderr
        assert "SystemExit: I end it all" in listed.stderr
        assert "echo" in succeed("status")

"""`runner explain` as an expert reads it."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from docker import DockerClient
from docker.models.containers import Container

from runner.cli.explanation import WIDTH, command_lines, lines
from runner.demo import questions
from runner.errors import BadInput, ModelNotFound
from runner.scheduler.explanation import EXAMPLE
from runner.state import Install
from tests.api.control import MODEL, recorded
from tests.cli.in_process import Terminal, terminal
from tests.support.program import DEADLINE_S, chat_body, until


@pytest.fixture(params=["nvidia", "amd", "mac", "cpu"])
def shell(
    request: pytest.FixtureRequest,
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Terminal]:
    with terminal(recorded(request.param), home, capsys, monkeypatch) as found:
        found.api.package_demo()
        yield found


def test_the_choice_comes_first_then_the_command_then_the_rest(shell: Terminal) -> None:
    lines = shell.run("explain", MODEL).splitlines()
    assert lines[0] == f"{MODEL}: gguf, F16, llama, 2.6 MB"
    assert lines[1].startswith("Served by llama.cpp/native ")
    assert " as a native process" in f"{lines[1]} {lines[2]}"
    table = next(n for n, line in enumerate(lines) if line.startswith("  VARIANT"))
    command = next(n for n, line in enumerate(lines) if "native_llamacpp" in line)
    assert command < table
    assert [line for line in lines if line.startswith("* ")] == [
        line for line in lines[table + 1 :] if line.startswith("* llama.cpp/native")
    ]
    assert lines[table + 1].endswith("nothing, it fits")
    assert any(line.startswith("format: the model is gguf; required: ") for line in lines)


def test_every_verdict_against_a_variant_is_there(shell: Terminal) -> None:
    document = json.loads(shell.run("explain", "--json", MODEL))
    text = " ".join(shell.run("explain", MODEL).split())
    against = [
        verdict
        for variant in document["variants"]
        for verdict in variant["verdicts"]
        if not verdict["ok"]
    ]
    assert against
    for verdict in against:
        told = f"{verdict['code']}: {verdict['found']}; required: {verdict['required']}"
        assert " ".join(told.split()) in text
        assert " ".join(verdict["hint"].split()) in text
        assert verdict["subject"] in text


def test_it_fits_eighty_columns_but_for_what_must_stay_whole(shell: Terminal) -> None:
    lines = shell.run("explain", MODEL).splitlines()
    long = [line for line in lines if len(line) > WIDTH]
    assert all(len(line.rstrip("\\").split()) <= 2 for line in long), long


def test_what_was_set_is_told_in_its_place(shell: Terminal) -> None:
    shell.run(
        *("configure", MODEL, "--context-size", "512", "--threads", "2", "--no-mmap"),
        *("--env", "LD_PRELOAD=x", "--set", "sampling.top_k=40"),
    )
    lines = shell.run("explain", MODEL).splitlines()
    assert any(line.startswith("  context   512 tokens, ") for line in lines)
    assert "  options   context_size=512 threads=2 mmap=false" in lines
    assert "  flags     --top-k 40" in lines
    assert any(line.startswith("  variable  LD_PRELOAD: dropped, because") for line in lines)
    assert any(line.startswith("  note      sampling.top_k is passed as") for line in lines)


def test_a_refusal_has_reasons_and_a_next_step(shell: Terminal) -> None:
    lines = shell.run("explain", MODEL, "--backend", "vllm", "--gpu", "none").splitlines()
    assert lines[1].startswith("Not served: ")
    assert next(line for line in lines if " variants can " in line).endswith("can serve it:")
    assert any(line.startswith("Next: ") for line in lines[:8])
    assert not any(line.startswith("* ") for line in lines)


def test_an_accelerator_that_the_engine_has_no_variant_for_is_refused_in_one_line(
    shell: Terminal,
) -> None:
    lines = shell.run("explain", MODEL, "--backend", "vllm", "--gpu", "vulkan").splitlines()
    assert lines[1:3] == [
        "Not served: vllm has no variant for vulkan",
        "Next: there is: --gpu none, --gpu cuda, --gpu rocm",
    ]


def test_an_engine_that_does_not_read_the_format_names_those_that_do(shell: Terminal) -> None:
    told = " ".join(shell.run("explain", MODEL, "--backend", "vllm").split())
    assert "Next: use llama.cpp" in told


def test_a_first_choice_that_is_passed_over_is_told_with_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    choice = {"label": "vllm/cpu", "version": "1", "form": "image"}
    passed = {
        "label": "vllm/cpu",
        "by": "mlx-lm/cpu",
        "why": "keeps failing",
        "reason": "vllm ended with status 1",
        "until": 1_000_000_000.0,
    }
    model = {"name": "m", "format": "safetensors", "quantization": "", "size": 1}
    found: dict[str, object] = {
        "model": {**model, "architecture": "x"},
        **dict.fromkeys(("problem", "start", "command", "unused_gpu", "fallbacks")),
        "choice": choice,
        "reason": "it is the best",
        "passed_over": passed,
        "variants": [],
    }
    told = " ".join(" ".join(lines(found)).split())
    assert (
        "But mlx-lm/cpu answers until 01:46: vllm/cpu keeps failing (vllm ended with status 1)."
        " Next: `runner unload m` gives it another chance now"
    ) in told


def _by_hand(text: str) -> str:
    """What a person would copy."""
    _, _, rest = text.partition("By hand:\n")
    commands, _, _ = rest.partition("\n\n")
    return commands


def test_folders_are_made_before_the_command(shell: Terminal, home: Path) -> None:
    document = json.loads(shell.run("explain", "--json", MODEL))
    preparation, command = document["preparation"], document["command"]
    run = str(home / "run" / "i" / EXAMPLE)
    first, second, third = preparation
    assert first == ["install", "-m", "700", "-d", run], "it is the daemon's own user's"
    assert second[:-1] == first[:-1]
    assert second[-1].startswith(f"{home}/cache/")
    assert third == ["rm", "-f", f"{run}/engine.sock"]
    assert f"{run}/engine.sock" in command
    typed = [line for words in (*preparation, command) for line in command_lines(words)]
    assert _by_hand(shell.run("explain", MODEL)).splitlines() == typed


def test_what_a_plug_in_starts_is_not_typed_by_hand() -> None:
    model = {"name": "m", "format": "gguf", "quantization": "", "size": 1, "architecture": "x"}
    found: dict[str, object] = {
        **dict.fromkeys(("choice", "problem", "start", "fallbacks", "passed_over", "unused_gpu")),
        "model": model,
        "preparation": [],
        "command": ["x", "starts", "it", "itself"],
        "variants": [],
    }
    told = list(lines(found))
    assert told[told.index("How it starts:") + 1] == "x starts it itself"
    assert "By hand:" not in told


@contextlib.contextmanager
def _typed(text: str) -> Iterator[None]:
    """A shell that runs it; Ctrl-C at the end."""
    shell = subprocess.Popen(["bash", "-ec", text], start_new_session=True)
    try:
        yield
        assert shell.poll() is None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGINT)
        shell.wait(DEADLINE_S)


def _is_open(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as opened:
        try:
            opened.connect(str(path))
        except OSError:
            return False
    return True


def _answer(path: Path, question: str) -> str:
    until(lambda: _is_open(path), "the socket of the engine that was started by hand")
    transport = httpx.HTTPTransport(uds=str(path))
    with httpx.Client(transport=transport, base_url="http://x", timeout=DEADLINE_S) as client:
        until(lambda: client.get("/health").status_code == 200, "its health")
        found = client.post("/v1/chat/completions", json=chat_body(MODEL, question))
    return str(found.json()["choices"][0]["message"]["content"])


def _containers_with(client: DockerClient, folder: Path) -> list[Container]:
    mounted: dict[str, str | list[str] | bool] = {"volume": str(folder)}
    return client.containers.list(all=True, ignore_removed=True, filters=mounted)


@pytest.mark.docker
def test_what_is_printed_can_be_pasted_and_serves(
    home: Path,
    engine_image: str,
    docker_client: DockerClient,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Twice: the first one leaves its socket where the second one listens."""
    image = str(docker_client.images.get(engine_image).id)
    with terminal(recorded("cpu"), home, capsys, monkeypatch) as shell:
        shell.api.package_demo()
        digest = "sha256:" + "a" * 64
        shell.api.services.state.record(
            Install("llama.cpp", "cpu", "v1", image, "", digest, (), "built", 1, 1)
        )
        text = shell.run("explain", MODEL, "--backend", "llama.cpp", "--gpu", "none")
    path = home / "run" / "i" / EXAMPLE / "engine.sock"
    assert not path.parent.exists(), "to explain makes nothing"
    for known in questions()[:2]:
        with _typed(_by_hand(text)):
            assert _answer(path, known.question) == known.answer
        until(lambda: not _containers_with(docker_client, path.parent), "its container's end")


def test_a_model_that_is_not_quantized_has_no_word_for_it() -> None:
    model = {"name": "m", "format": "safetensors", "quantization": "none", "size": 2_700_000}
    found: dict[str, object] = {
        "model": {**model, "architecture": "LlamaForCausalLM"},
        **dict.fromkeys(("choice", "problem", "start", "command", "fallbacks", "passed_over")),
        "variants": [],
    }
    assert next(lines(found)) == "m: safetensors, LlamaForCausalLM, 2.7 MB"


def test_bad_words_are_refused(shell: Terminal) -> None:
    with pytest.raises(ModelNotFound):
        shell.run("explain", "ai/nobody")
    with pytest.raises(BadInput) as caught:
        shell.run("explain", MODEL, "--gpu", "cude")
    assert caught.value.hint == "did you mean cuda?"


@pytest.mark.parametrize(
    "command",
    [
        ["docker", "run", "--rm", "--env", "A=1 2", "image", "--model", "/m", "-c", "1"] * 4,
        ["/bin/x", "--a", "it's", "--b"],
        ["docker", "run", *(f"--flag-{n}={'x' * 70}" for n in range(3))],
        ["one"],
    ],
)
def test_a_command_can_be_pasted(command: list[str]) -> None:
    lines = list(command_lines(command))
    assert shlex.split("\n".join(lines).replace("\\\n", " ")) == command
    assert all(line.endswith(" \\") for line in lines[:-1])
    assert all(len(line) <= WIDTH or len(line.split()) <= 3 for line in lines)

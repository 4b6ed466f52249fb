"""The embedded llama.cpp as a program: llama-server's arguments in, its API out, honest ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

import runner
from runner.engines import native_llamacpp
from runner.engines.base import Mode, Plan, TcpEndpoint, UnixEndpoint
from runner.engines.llamacpp import LlamaCpp
from tests.support.ports import free_port

pytest.importorskip("xllamacpp")

ROOT = Path(runner.__file__).parents[1]
DEMO = Path(runner.__file__).parent / "demo"
MODEL = DEMO / "demo-f16.gguf"
READY = "ready on "
TIMEOUT_S = 60


@pytest.fixture
def socket_path(home: Path) -> Path:
    return home / "engine.sock"


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", native_llamacpp.__name__, *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    with process:
        try:
            yield process
        finally:
            process.kill()


def await_line(process: subprocess.Popen[str], part: str) -> None:
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if part in line:
            return
    raise AssertionError("".join(seen))


def refused(*arguments: str) -> tuple[int, str]:
    """The exit status and the last line of one that ends by itself."""
    with started(*arguments) as process:
        assert process.stderr is not None
        last = process.stderr.read().splitlines()[-1]
        return process.wait(TIMEOUT_S), last


def plan(listen: UnixEndpoint | TcpEndpoint, mode: Mode = Mode.COMPLETION) -> tuple[str, ...]:
    """The very arguments that the runner starts it with."""
    planned = Plan(MODEL, listen, context_size=512, names=("demo",), mode=mode)  # type: ignore[arg-type]
    return LlamaCpp().command(planned).arguments


def test_answers_on_a_socket(socket_path: Path) -> None:
    known = json.loads((DEMO / "questions.json").read_text())["questions"][0]
    body = {"messages": [{"role": "user", "content": known["question"]}], "temperature": 0}
    with started(*plan(UnixEndpoint(str(socket_path)))) as process:
        await_line(process, READY)
        transport = httpx.HTTPTransport(uds=str(socket_path))
        with httpx.Client(transport=transport, base_url="http://engine", timeout=60) as client:
            assert client.get("/health").status_code == 200
            assert "llamacpp:" in client.get("/metrics").text
            assert client.get("/").status_code == 404
            answer = client.post("/v1/chat/completions", json=body).json()
        process.terminate()
        assert process.wait(TIMEOUT_S) == 0
    assert answer["choices"][0]["message"]["content"] == known["answer"]
    assert not socket_path.exists()


def test_serves_on_a_port() -> None:
    port = free_port()
    with started(*plan(TcpEndpoint("127.0.0.1", port))) as process:
        await_line(process, READY)
        assert httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200


def test_embeds(socket_path: Path) -> None:
    arguments = plan(UnixEndpoint(str(socket_path)), Mode.EMBEDDING)
    with started(*arguments, "--pooling", "mean") as process:
        await_line(process, READY)
        transport = httpx.HTTPTransport(uds=str(socket_path))
        with httpx.Client(transport=transport, base_url="http://engine", timeout=60) as client:
            answer = client.post("/v1/embeddings", json={"input": "engine"}).json()
    assert len(answer["data"][0]["embedding"]) > 0


def test_ends_quickly_while_busy(socket_path: Path) -> None:
    body = b'{"prompt": "a", "n_predict": 100000, "ignore_eos": true, "stream": true}'
    request = b"POST /completion HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
    with started(*plan(UnixEndpoint(str(socket_path)))) as process:
        await_line(process, READY)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(socket_path))
            connection.sendall(request % (len(body), body))
            assert connection.recv(1) == b"H"
            asked = time.monotonic()
            process.terminate()
            assert process.wait(TIMEOUT_S) == 0
            assert time.monotonic() - asked < 5


@pytest.mark.skipif(os.name == "nt", reason="named pipes")
def test_ends_while_it_loads(home: Path, socket_path: Path) -> None:
    """A named pipe that nobody writes to is a model that never stops loading."""
    pipe = home / "model.gguf"
    os.mkfifo(pipe)
    with started("--model", str(pipe), "--host", str(socket_path)) as process:
        await_line(process, "loading model")
        process.terminate()
        assert process.wait(TIMEOUT_S) == -signal.SIGTERM


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        (b"not a model at all", "invalid magic characters"),
        (MODEL.read_bytes()[:200_000], "error: "),
    ],
)
def test_a_bad_model_is_the_last_line(
    content: bytes | None, reason: str, home: Path, socket_path: Path
) -> None:
    model = home / "bad.gguf"
    if content is not None:
        model.write_bytes(content)
    status, last = refused("--model", str(model), "--host", str(socket_path))
    assert status == 1
    assert last.startswith("error: ")
    assert reason in last


def test_an_address_in_use_is_the_last_line(socket_path: Path) -> None:
    socket_path.touch()
    status, last = refused("--model", str(MODEL), "--host", str(socket_path))
    assert (status, "couldn't bind" in last) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--model", "m", "--no-such-flag", "1"), "unknown argument: --no-such-flag"),
        (("--model", "m", "--port", "many"), "argument --port: invalid int value: 'many'"),
        ((), "the following arguments are required: --model"),
    ],
)
def test_bad_arguments_are_refused(arguments: tuple[str, ...], reason: str) -> None:
    status, last = refused(*arguments)
    assert status == 2
    assert reason in last


def test_is_light_to_import() -> None:
    program = f"import sys, {native_llamacpp.__name__}; print(*sys.modules)"
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert {"pydantic", "typer", "httpx", "xllamacpp"}.isdisjoint(printed.stdout.split())

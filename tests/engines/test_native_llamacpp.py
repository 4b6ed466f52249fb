"""The embedded llama.cpp as a program: llama-server's arguments in, its API out, honest ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import gguf
import httpx
import numpy as np
import pytest

import runner
from runner.engines import native_llamacpp
from runner.engines.base import Adapter, Mode, Plan, TcpEndpoint, UnixEndpoint
from runner.engines.catalog import images_folder
from runner.engines.engine_file import read_engine_file
from runner.engines.llamacpp import LlamaCpp
from runner.engines.options import Options, Switch
from tests.support.ports import free_port

ROOT = Path(runner.__file__).parents[1]
DEMO = Path(runner.__file__).parent / "demo"
MODEL = DEMO / "demo-f16.gguf"
ENGINE = LlamaCpp(read_engine_file(images_folder() / "llama.cpp" / "engine.yaml"))
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


def plan(
    listen: UnixEndpoint | TcpEndpoint,
    mode: Mode = Mode.COMPLETION,
    options: Options | None = None,
    draft_model: PurePosixPath | None = None,
    adapters: tuple[Adapter, ...] = (),
    flags: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """The very arguments that the runner starts it with."""
    planned = Plan(
        PurePosixPath(MODEL),
        PurePosixPath(DEMO),
        listen,
        context_size=512,
        names=("demo",),
        mode=mode,
        options=options or Options(),
        draft_model=draft_model,
        adapters=adapters,
        flags=flags,
    )
    return ENGINE.command(planned).arguments


def client_of(socket_path: Path) -> httpx.Client:
    transport = httpx.HTTPTransport(uds=str(socket_path))
    return httpx.Client(transport=transport, base_url="http://engine", timeout=60)


def test_answers_on_a_socket(socket_path: Path) -> None:
    known = json.loads((DEMO / "questions.json").read_text())["questions"][0]
    body = {"messages": [{"role": "user", "content": known["question"]}], "temperature": 0}
    with started(*plan(UnixEndpoint(str(socket_path)))) as process:
        await_line(process, READY)
        with client_of(socket_path) as client:
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
        with client_of(socket_path) as client:
            answer = client.post("/v1/embeddings", json={"input": "engine"}).json()
    assert len(answer["data"][0]["embedding"]) > 0


def test_options_take_effect(socket_path: Path) -> None:
    """What the server itself says of each, and the exact answer with a draft model at work."""
    known = json.loads((DEMO / "questions.json").read_text())["questions"][0]
    body = {"messages": [{"role": "user", "content": known["question"]}], "temperature": 0}
    options = Options(
        parallel=2,
        threads=1,
        batch_size=256,
        micro_batch_size=128,
        mmap=False,
        flash_attention=Switch.ON,
        cache_type_k="q8_0",
        cache_type_v="q8_0",
        draft_tokens=4,
        seed=7,
    )
    arguments = plan(
        UnixEndpoint(str(socket_path)),
        options=options,
        draft_model=PurePosixPath(MODEL),
        flags=("--top-k", "3", "--min-p", "0.25", "--no-slots", "--verbosity", "4"),
    )
    with started(*arguments) as process:
        await_line(process, READY)
        with client_of(socket_path) as client:
            properties = client.get("/props").json()
            slots = client.get("/slots").status_code
            answer = client.post("/v1/chat/completions", json=body).json()
            metrics = client.get("/metrics").text
    defaults = properties["default_generation_settings"]
    assert (properties["total_slots"], defaults["n_ctx"], slots) == (2, 512, 501)
    assert (defaults["params"]["seed"], defaults["params"]["top_k"]) == (7, 3)
    assert defaults["params"]["min_p"] == 0.25
    assert answer["choices"][0]["message"]["content"] == known["answer"]
    drafted = re.search(r"^llamacpp:spec_decode_num_accepted_tokens_total (\d+)", metrics, re.M)
    assert drafted is not None and int(drafted[1]) > 0


def write_adapter(path: Path) -> None:
    """A LoRA adapter for the demo model that changes nothing: its second half is all zeros."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 1.0)
    writer.add_tensor("blk.0.attn_q.weight.lora_a", np.ones((1, 256), dtype=np.float32))
    writer.add_tensor("blk.0.attn_q.weight.lora_b", np.zeros((256, 1), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_takes_adapters(home: Path, socket_path: Path) -> None:
    file = home / "adapter, small.gguf"
    write_adapter(file)
    adapters = (Adapter("small", PurePosixPath(file)),)
    with started(*plan(UnixEndpoint(str(socket_path)), adapters=adapters)) as process:
        await_line(process, READY)
        with client_of(socket_path) as client:
            (adapter,) = client.get("/lora-adapters").json()
    assert (adapter["path"], adapter["scale"]) == (str(file), 1.0)


def test_an_adapter_for_another_model_is_the_last_line(home: Path, socket_path: Path) -> None:
    arguments = plan(
        UnixEndpoint(str(socket_path)), adapters=(Adapter("no", PurePosixPath(MODEL)),)
    )
    status, last = refused(*arguments)
    assert status == 1
    assert "expect general.type to be 'adapter'" in last
    assert "same base model" in ENGINE.hint(last.splitlines())


def test_its_metrics_are_those_that_the_runner_reads(socket_path: Path) -> None:
    with started(*plan(UnixEndpoint(str(socket_path)))) as process:
        await_line(process, READY)
        with client_of(socket_path) as client:
            shown = client.get("/metrics").text
    names = ENGINE.metrics.values()
    assert [name for name in names if f"\n{name} " not in shown] == []


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
        (("--model", "m", "--no-such-flag", "1"), "--no-such-flag is no flag"),
        (("--model", "m", "--port", "many"), "--port does not take 'many'"),
        (("--model", "m", "--threads"), "--threads needs a value"),
        (("--model", "m", "--device", "CPU"), "--device can't be used: the embedded llama.cpp"),
        (("--model", "m", "--no-mmap"), "--no-mmap is gone"),
        (("--model", "m", "--rope-scaling", "odd"), "--rope-scaling does not take 'odd'"),
        ((), "--model is missing"),
    ],
)
def test_bad_arguments_are_refused(arguments: tuple[str, ...], reason: str) -> None:
    status, last = refused(*arguments)
    assert status == 2
    assert last.startswith("error: ")
    assert reason in last


def test_is_light_to_import() -> None:
    program = f"import sys, {native_llamacpp.__name__}; print(*sys.modules)"
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert {"pydantic", "typer", "httpx", "xllamacpp"}.isdisjoint(printed.stdout.split())

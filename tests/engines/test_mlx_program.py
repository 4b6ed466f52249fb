"""MLX LM as a program, from an environment that was really made: exact answers, honest ends."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import httpx
import pytest

from runner.demo import huggingface_path, questions
from runner.demo.oracle import mismatches
from runner.engines.abilities import knows
from runner.engines.base import Plan, UnixEndpoint
from runner.engines.catalog import description_of, images_folder
from runner.engines.mlx import MlxLm
from runner.installs.environments import Environment
from tests.demo.chat import Manner, answer, answers
from tests.engines.packed_weights import Packing, packed
from tests.support import hf_damage
from tests.support.environments import mlx_environment

ENGINE = MlxLm(description_of("mlx-lm"))
IMAGES = images_folder() / "mlx-lm"
TIMEOUT_S = 120
OFFLINE = {"HF_HUB_OFFLINE": "1", "PATH": os.defpath, "COLUMNS": "80"}


@pytest.fixture(scope="module")
def environment() -> Environment:
    return mlx_environment()


@contextmanager
def started(environment: Environment, arguments: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    command = [str(environment.python), *ENGINE.native_arguments, *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=OFFLINE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def planned(model: Path, socket: Path) -> tuple[str, ...]:
    """The very arguments that the runner starts it with."""
    folder = PurePosixPath(model)
    plan = Plan(
        model_file=folder / "model.safetensors",
        model_folder=folder,
        listen=UnixEndpoint(str(socket)),
        context_size=512,
        names=("demo", "ai/demo:1"),
    )
    return ENGINE.command(plan).arguments


@contextmanager
def served(environment: Environment, model: Path, socket: Path) -> Iterator[httpx.Client]:
    with started(environment, planned(model, socket)) as process:
        assert process.stdout is not None
        seen = []
        for line in process.stdout:
            seen.append(line)
            if line.startswith("ready on "):
                break
        else:
            raise AssertionError("".join(seen))
        drain = subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)
        transport = httpx.HTTPTransport(uds=str(socket))
        with httpx.Client(transport=transport, base_url="http://engine", timeout=60) as client:
            yield client
        asked = time.monotonic()
        process.terminate()
        assert process.wait(TIMEOUT_S) == 0
        assert time.monotonic() - asked < 5
        assert not socket.exists()
        drain.wait(TIMEOUT_S)


def refused(environment: Environment, *arguments: str) -> tuple[int, str]:
    with started(environment, arguments) as process:
        printed, _ = process.communicate(timeout=TIMEOUT_S)
        return process.returncode, printed.splitlines()[-1]


def test_every_answer_is_right(environment: Environment, home: Path) -> None:
    with served(environment, huggingface_path(), home / "e.sock") as client:
        assert client.get("/health").status_code == 200
        listed = [model["id"] for model in client.get("/v1/models").json()["data"]]
        assert listed == ["demo", "ai/demo:1"]
        assert mismatches(answers(client, Manner(model="ai/demo:1"))) == ()
        for known in questions()[:8]:
            assert answer(client, known.question, Manner(stream=True)) == known.answer
        _check_answer(client)
        _check_refusals(client)
        _check_a_stream_that_is_left(client)


def _check_answer(client: httpx.Client) -> None:
    question = [{"role": "user", "content": questions()[0].question}]
    body = {"model": "ai/demo:1", "messages": question, "temperature": 0}
    whole = client.post("/v1/chat/completions", json=body).json()
    assert whole["model"] == "demo"
    assert whole["usage"]["prompt_tokens"] > 0
    assert whole["usage"]["completion_tokens"] > 0
    streamed = client.post("/v1/chat/completions", json={**body, "stream": True})
    assert streamed.headers["transfer-encoding"] == "chunked"
    assert streamed.text.endswith("data: [DONE]\n\n")


def _check_refusals(client: httpx.Client) -> None:
    say = [{"role": "user", "content": "Hello"}]
    image = {"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/x.png"}}
    for changes, reason in (
        ({"model": "other"}, "there is no model 'other'"),
        ({"adapters": "/etc"}, "chosen when the model is started"),
        ({"draft_model": "/etc"}, "chosen when the model is started"),
        ({"messages": [{"role": "user", "content": [image]}]}, "data URLs alone"),
        ({"messages": [{"role": "user", "content": "word " * 2000}]}, "the context of 512"),
    ):
        body = {"model": "demo", "messages": say, **changes}
        answered = client.post("/v1/chat/completions", json=body)
        assert answered.status_code == 400, answered.text
        assert reason in answered.json()["error"]
    assert client.get("/nothing").status_code == 404


def _check_a_stream_that_is_left(client: httpx.Client) -> None:
    """Whoever leaves does not keep the engine from answering others."""
    body = {"model": "demo", "prompt": "a", "max_tokens": 400, "stream": True}
    with client.stream("POST", "/v1/completions", json=body) as response:
        assert next(response.iter_lines()).startswith((":", "data: "))
    known = questions()[0]
    assert answer(client, known.question, Manner()) == known.answer


def test_damaged_weights_are_noticed(environment: Environment, home: Path, tmp_path: Path) -> None:
    damaged = hf_damage.with_a_permuted_tensor(tmp_path)
    with served(environment, damaged, home / "e.sock") as client:
        given = {one.question: answer(client, one.question, Manner()) for one in questions()[:8]}
    assert any(given[one.question] != one.answer for one in questions()[:8])


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("config.json", b'{"model_type": "zebra"}', "Model type zebra not supported"),
        ("model.safetensors", b"no weights at all", "[load_safetensors]"),
    ],
)
def test_a_bad_model_is_the_last_line(
    name: str, content: bytes, reason: str, environment: Environment, home: Path
) -> None:
    model = home / "model"
    model.mkdir()
    for file in huggingface_path().iterdir():
        (model / file.name).write_bytes(content if file.name == name else file.read_bytes())
    status, last = refused(environment, *planned(model, home / "e.sock"))
    assert (status, last.startswith("error: "), reason in last) == (1, True, True), last
    assert ENGINE.hint((last,))


@pytest.mark.parametrize("packing", [Packing.GPTQ, Packing.GPTQ_WITHOUT_INDEX])
def test_gptq_is_told_as_a_quantization_that_it_can_not_read(
    packing: Packing, environment: Environment, home: Path, tmp_path: Path
) -> None:
    """So its engine.yaml does not name it, and such a model is refused before the start."""
    status, last = refused(environment, *planned(packed(tmp_path, packing), home / "e.sock"))
    assert (status, last.startswith("error: ")) == (1, True), last
    assert "can't read this quantization" in ENGINE.hint((last,)), last
    (known,) = ENGINE.description.formats.values()
    assert not knows("gptq-int4", known)


def test_awq_is_read(environment: Environment, home: Path, tmp_path: Path) -> None:
    (known,) = ENGINE.description.formats.values()
    assert knows("awq-int4", known)
    with served(environment, packed(tmp_path, Packing.AWQ), home / "e.sock") as client:
        given = {one.question: answer(client, one.question, Manner()) for one in questions()[:8]}
    assert given == {one.question: one.answer for one in questions()[:8]}


def test_an_address_in_use_is_the_last_line(environment: Environment, home: Path) -> None:
    socket = home / "e.sock"
    socket.touch()
    status, last = refused(environment, *planned(huggingface_path(), socket))
    assert (status, "Address already in use" in last) == (1, True), last


def test_a_bad_flag_is_the_last_line(environment: Environment, home: Path) -> None:
    arguments = planned(huggingface_path(), home / "e.sock")
    status, last = refused(environment, *arguments, "--nope", "1")
    assert (status, "unrecognized arguments: --nope" in last) == (2, True), last


def test_the_captured_help_is_the_live_one(environment: Environment) -> None:
    command = [str(environment.python), *ENGINE.native_arguments, "--help"]
    live = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=OFFLINE)
    header, captured = (IMAGES / "help.txt").read_text().split("\n", 1)
    assert header.startswith(f"# MLX LM {ENGINE.description.variants[0].version}: ")
    assert captured == live.stdout


def test_the_architectures_are_those_of_the_pinned_version(environment: Environment) -> None:
    command = [str(environment.python), "-I", str(IMAGES / "architectures.py")]
    live = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=OFFLINE)
    assert live.stdout == (IMAGES / "architectures.txt").read_text()

"""The transformers image for CPUs: what it says of itself, and exact answers from it, confined."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import httpx
import pytest
from safetensors.numpy import load_file, save_file

from runner.demo import huggingface_path, questions
from runner.demo.oracle import mismatches
from runner.engines.base import Plan, UnixEndpoint
from runner.engines.catalog import description_of
from runner.engines.environment import settle
from runner.engines.options import Options
from runner.engines.transformers import Transformers
from tests.demo.chat import Manner, answer, answers
from tests.images.agreement import check_agreement
from tests.support import hf_damage
from tests.support.images import IMAGES, built_engine

FOLDER = IMAGES / "transformers"
ENGINE = Transformers(description_of("transformers"))
START_S = 180
LISTENS = "Uvicorn running on unix socket"
PROBE = ("--rm", "--label", "runner.test=1", "--network", "none")
CONFINED = (
    *("--label", "runner.test=1", "--network", "none", "--init", "--read-only"),
    *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
    *("--tmpfs", "/tmp:rw,noexec,nosuid,nodev,size=256m,mode=1777", "--user", "10001:10001"),
    *("--env", "HOME=/cache", "--env", "XDG_CACHE_HOME=/cache"),
)

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def image(base_image: str) -> str:
    return built_engine(base_image, FOLDER / "cpu")


def docker(*arguments: str, given: str | None = None) -> str:
    ran = subprocess.run(
        ["docker", *arguments], input=given, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr or ran.stdout
    return ran.stdout


@contextmanager
def served(image: str, model: Path, session_folder: Path) -> Iterator[httpx.Client]:
    """Run the way the launcher runs engines, with the arguments that the runner gives."""
    folder = session_folder / uuid.uuid4().hex[:8]
    for part in ("run", "cache"):
        (folder / part).mkdir(parents=True)
        (folder / part).chmod(0o777)
    plan = Plan(
        model_file=PurePosixPath("/model/model.safetensors"),
        model_folder=PurePosixPath("/model"),
        listen=UnixEndpoint("/run/engine/e.sock"),
        context_size=512,
        names=("demo", "ai/demo:1"),
        options=Options(threads=1),
    )
    command = ENGINE.command(plan)
    settled = settle({}, ENGINE.environment_rules, command.environment).environment
    environment = [word for name in settled for word in ("--env", f"{name}={settled[name]}")]
    mounts = (
        *("--volume", f"{model}:/model:ro", "--volume", f"{folder}/cache:/cache"),
        *("--volume", f"{folder}/run:/run/engine"),
    )
    started = docker(
        "run", "--detach", *CONFINED, *environment, *mounts, image, *command.arguments
    ).strip()
    try:
        _await_start(started)
        transport = httpx.HTTPTransport(uds=str(folder / "run" / "e.sock"))
        with httpx.Client(transport=transport, base_url="http://engine", timeout=120) as client:
            assert client.get("/health").status_code == 200
            yield client
        docker("stop", "--time", "20", started)
        assert docker("inspect", "--format", "{{.State.ExitCode}}", started).strip() == "0"
        assert list((folder / "run").iterdir()) == []
    finally:
        docker("rm", "--force", started)


def _await_start(container: str) -> None:
    """Its own line says when it listens; a container that ends closes its log."""
    command = ["docker", "logs", "--follow", container]
    seen = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as log:
        assert log.stdout is not None
        watchdog = threading.Timer(START_S, log.kill)
        watchdog.start()
        try:
            for line in log.stdout:
                seen.append(line)
                if LISTENS in line:
                    return
        finally:
            watchdog.cancel()
            log.kill()
    raise AssertionError("".join(seen))


def test_it_says_what_engine_yaml_says(image: str) -> None:
    variant = ENGINE.description.variant("cpu")
    assert variant is not None
    manifest = check_agreement(image, ENGINE.description, variant)
    assert [file.path for file in manifest.files] == ["requirements.txt", "serve.py"]


def test_it_holds_the_version_that_its_label_says(image: str) -> None:
    look = "import transformers, torch; print(transformers.__version__, torch.version.cuda)"
    printed = docker("run", *PROBE, "--entrypoint", "python3", image, "-c", look)
    assert printed.split() == [ENGINE.description.variants[0].version, "None"]


def test_every_answer_is_right(image: str, session_folder: Path) -> None:
    with served(image, huggingface_path(), session_folder) as client:
        listed = [model["id"] for model in client.get("/v1/models").json()["data"]]
        assert listed == ["demo", "ai/demo:1"]
        assert mismatches(answers(client, Manner(model="ai/demo:1"))) == ()
        for known in questions()[:8]:
            assert answer(client, known.question, Manner(stream=True)) == known.answer
        _check_answer(client)
        _check_refusals(client)


def _check_answer(client: httpx.Client) -> None:
    question = [{"role": "user", "content": questions()[0].question}]
    body = {"model": "ai/demo:1", "messages": question, "temperature": 0}
    whole = client.post("/v1/chat/completions", json=body).json()
    assert whole["model"] == "demo"
    assert whole["usage"]["prompt_tokens"] > 0
    assert whole["usage"]["completion_tokens"] > 0
    streamed = client.post("/v1/chat/completions", json={**body, "stream": True})
    assert streamed.headers["transfer-encoding"] == "chunked"
    assert '"usage":{"completion_tokens":' in streamed.text
    assert streamed.text.endswith("data: [DONE]\n\n")


def _check_refusals(client: httpx.Client) -> None:
    for changes, status, reason in (
        ({"model": "other"}, 404, "there is no model 'other'"),
        ({"messages": [{"role": "user", "content": "a " * 2000}]}, 400, "the context of 512"),
    ):
        say = [{"role": "user", "content": "Hello"}]
        answered = client.post("/v1/chat/completions", json={"messages": say, **changes})
        assert (answered.status_code, reason in answered.text) == (status, True), answered.text


def test_damaged_weights_are_noticed(image: str, session_folder: Path, tmp_path: Path) -> None:
    damaged = hf_damage.with_a_permuted_tensor(tmp_path)
    with served(image, damaged, session_folder) as client:
        given = {one.question: answer(client, one.question, Manner()) for one in questions()[:8]}
    assert any(given[one.question] != one.answer for one in questions()[:8])


def test_a_bad_model_is_the_last_line(image: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "zebra", "architectures": ["Zebra"]}')
    (tmp_path / "config.json").chmod(0o644)
    tmp_path.chmod(0o755)
    assert ENGINE.hint((_refused(image, tmp_path),))


def _refused(image: str, model: Path) -> str:
    """Its last line. That it has served for long means that it was not refused."""
    container = (*PROBE, "--init", "--entrypoint", "timeout", "--volume", f"{model}:/model:ro")
    program = (str(START_S), "python3", "/engine/serve.py", "/model", "--uds", "/tmp/e.sock")
    ran = subprocess.run(
        ["docker", "run", *container, "--env", "HOME=/tmp", image, *program],
        capture_output=True,
        text=True,
        check=False,
    )
    last = (ran.stdout + ran.stderr).splitlines()[-1]
    assert (ran.returncode, last.startswith("error: ")) == (1, True), last
    return last


def _changed(folder: Path, without: str, **config: bool) -> Path:
    """The demo model without the tensors that have this in their names."""
    shutil.copytree(huggingface_path(), folder)
    weights, stated = folder / "model.safetensors", folder / "config.json"
    tensors = load_file(weights)
    save_file(
        {name: tensor for name, tensor in tensors.items() if without not in name},
        weights,
        metadata={"format": "pt"},
    )
    stated.write_text(json.dumps({**json.loads(stated.read_text()), **config}))
    for file in (weights, stated):
        file.chmod(0o644)  # an engine in a container is another user
    return folder


def test_weights_that_lack_a_tensor_are_refused(image: str, tmp_path: Path) -> None:
    """transformers would fill it at random. The sound model lacks one too: its head is tied."""
    tmp_path.chmod(0o755)
    for name, without, lacks in (
        (
            "one",
            "layers.0.self_attn.k_proj",
            "1 of the model's tensors: model.layers.0.self_attn.k",
        ),
        ("several", "mlp", "9 of the model's tensors: model.layers.0.mlp.down_proj.weight, "),
    ):
        last = _refused(image, _changed(tmp_path / name, without))
        assert lacks in last
        assert "model.layers.0." in ENGINE.hint((last,))
    assert last.endswith("model.layers.0.mlp.up_proj.weight and 6 more")
    untied = _changed(tmp_path / "untied", "nothing", tie_word_embeddings=False)
    assert _refused(image, untied).endswith("1 of the model's tensors: lm_head.weight")


def test_the_captured_help_is_the_live_one(image: str) -> None:
    live = docker("run", *PROBE, "--env", "COLUMNS=80", image, "--help")
    header, captured = (FOLDER / "help.txt").read_text().split("\n", 1)
    assert header.startswith(f"# transformers {ENGINE.description.variants[0].version}: ")
    assert captured == live


def test_the_architectures_are_those_of_the_pinned_version(image: str) -> None:
    program = (FOLDER / "architectures.py").read_text()
    probe = ("--interactive", *PROBE, "--entrypoint", "python3")
    assert (
        docker("run", *probe, image, "-", given=program)
        == (FOLDER / "architectures.txt").read_text()
    )

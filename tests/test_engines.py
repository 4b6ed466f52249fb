"""The engines that run here, each from its own image or environment, through the one gateway.

They get the same weights and must give the same answers, word for word; with damaged weights none
of them does.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from runner.demo import gguf_path, huggingface_path, questions
from runner.demo.oracle import mismatches
from runner.engines.catalog import description_of
from tests.demo import damage
from tests.support import hf_damage
from tests.support.images import IMAGES, build_settings, built_engine
from tests.support.ports import free_port
from tests.support.program import Daemon, chat_body, daemon, runner, succeed

LOAD_S = 300.0
"""vLLM takes a minute to start on two cores, and more beside others."""

ENGINES = ("llama.cpp", "vllm", "transformers", "mlx-lm")
GGUF, FOLDER = "tests/gguf:1", "tests/folder:1"
BAD_GGUF, BAD_FOLDER = "tests/bad-gguf:1", "tests/bad-folder:1"

pytestmark = pytest.mark.docker


@dataclass(frozen=True)
class Kitchen:
    """A daemon with all four engines installed."""

    daemon: Daemon

    def answer(self, engine: str, model: str, question: str, *, stream: bool = False) -> str:
        path = f"/engines/{engine}/v1/chat/completions"
        body = {**chat_body(model, question), "stream": stream, "max_tokens": 160}
        with httpx.Client(base_url=self.daemon.url, timeout=LOAD_S, trust_env=False) as client:
            response = client.post(path, json=body)
        assert response.status_code == 200, response.text
        assert response.headers["x-runner-engine"] == engine
        if not stream:
            found = response.json()
            assert found["model"] == model
            return str(found["choices"][0]["message"]["content"])
        lines = response.text.splitlines()  # comments keep a connection alive
        events = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        assert events[-1] == "[DONE]"
        choices = [choice for event in events[:-1] for choice in json.loads(event)["choices"]]
        return "".join(choice["delta"].get("content") or "" for choice in choices)

    def answers(self, engine: str, model: str, *, stream: bool = False) -> dict[str, str]:
        return {
            known.question: self.answer(engine, model, known.question, stream=stream)
            for known in questions()
        }


def _model_of(engine: str) -> str:
    return GGUF if engine == "llama.cpp" else FOLDER


@pytest.fixture(scope="module")
def kitchen(
    base_image: str,
    engine_image: str,
    session_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Kitchen]:
    for name in ("vllm", "transformers"):
        built_engine(base_image, IMAGES / name / "cpu")  # so that the cache has all of it
    home = session_folder / "kitchen"
    home.mkdir()
    settings = build_settings(base_image)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNNER_HOME", str(home))
        patch.setenv("RUNNER_PORT", str(free_port()))
        patch.setenv("RUNNER_BUILD_CONTEXTS", json.dumps(settings.build_contexts))
        secrets = {name: str(path) for name, path in settings.build_secrets.items()}
        patch.setenv("RUNNER_BUILD_SECRETS", json.dumps(secrets))
        if settings.ca_file is not None:
            patch.setenv("RUNNER_CA_FILE", str(settings.ca_file))
        succeed("package", "--gguf", str(gguf_path()), GGUF)
        succeed("package", "--safetensors", str(huggingface_path()), FOLDER)
        damaged = tmp_path_factory.mktemp("damaged")
        bad = damage.with_a_permuted_tensor(damaged)
        succeed("package", "--gguf", str(bad), BAD_GGUF)
        succeed(
            "package", "--safetensors", str(hf_damage.with_a_permuted_tensor(damaged)), BAD_FOLDER
        )
        with daemon(home) as running:
            for name in ENGINES:
                succeed("install-runner", "--backend", name, "--gpu", "none")
            yield Kitchen(running)
            for name in ENGINES:
                succeed("uninstall-runner", "--backend", name)
    shutil.rmtree(home)


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_gives_the_exact_answers(kitchen: Kitchen, engine: str) -> None:
    """Whole, and for some as a stream; then the instance makes room."""
    model = _model_of(engine)
    assert not mismatches(kitchen.answers(engine, model))
    for known in questions()[:3]:
        assert kitchen.answer(engine, model, known.question, stream=True) == known.answer
    succeed("unload", "--backend", engine, "--all")


@pytest.mark.parametrize("engine", ENGINES)
def test_damaged_weights_turn_the_oracle_red(kitchen: Kitchen, engine: str) -> None:
    """A few questions will do: nonsense goes on until the context is full."""
    bad = BAD_GGUF if engine == "llama.cpp" else BAD_FOLDER
    asked = questions()[:6]
    assert any(kitchen.answer(engine, bad, known.question) != known.answer for known in asked)
    succeed("unload", "--backend", engine, "--all")


def test_two_engines_serve_at_the_same_time_by_path(kitchen: Kitchen) -> None:
    first, second = questions()[:2]
    assert kitchen.answer("llama.cpp", GGUF, first.question) == first.answer
    assert kitchen.answer("mlx-lm", FOLDER, second.question) == second.answer
    assert kitchen.answer("llama.cpp", GGUF, second.question) == second.answer
    serving = {instance["backend"] for instance in kitchen.daemon.instances()}
    assert serving == {"llama.cpp", "mlx-lm"}
    said = succeed("status")
    for engine in ENGINES:
        (variant,) = [v for v in description_of(engine).variants if v.name == "cpu"]
        (line,) = [
            line for line in said.splitlines() if line.startswith(f"{engine} ") and " cpu " in line
        ]
        assert variant.version in line
    succeed("unload", "--all")


def test_a_path_names_a_variant_too(kitchen: Kitchen) -> None:
    known = questions()[0]
    body = chat_body(GGUF, known.question)
    with httpx.Client(base_url=kitchen.daemon.url, timeout=LOAD_S, trust_env=False) as client:
        found = client.post("/engines/llama.cpp:cpu/v1/chat/completions", json=body)
        assert found.json()["choices"][0]["message"]["content"] == known.answer
        refused = client.post("/engines/llama.cpp:cuda13/v1/chat/completions", json=body)
        assert refused.status_code == 412, refused.text
        wrong = client.post("/engines/lama.cpp/v1/chat/completions", json=body)
        assert wrong.status_code == 404
        assert "llama.cpp" in wrong.json()["error"]["hint"]
    succeed("unload", "--all")


def test_what_is_configured_holds(kitchen: Kitchen) -> None:
    known = questions()[0]
    succeed("configure", "--context-size", "512", GGUF, "--", "--threads", "1")
    assert kitchen.answer("llama.cpp", GGUF, known.question) == known.answer
    (instance,) = kitchen.daemon.instances()
    assert instance["context_size"] == 512
    said = json.loads(succeed("explain", "--json", GGUF))
    command = said["command"]
    assert command[command.index("--threads") + 1] == "1"
    succeed("configure", "--context-size", "256", GGUF)
    assert kitchen.answer("llama.cpp", GGUF, known.question) == known.answer
    assert [one["context_size"] for one in kitchen.daemon.instances()] == [256]
    succeed("configure", "--reset", GGUF)
    succeed("unload", "--all")


def test_a_fallback_takes_over_where_the_first_choice_does_not_start(kitchen: Kitchen) -> None:
    """vLLM refuses this data type when it starts; transformers is the user's fallback."""
    known = questions()[0]
    name = "tests/fallback:1"
    succeed("tag", FOLDER, name)
    succeed("configure", "--backend", "vllm", "--dtype", "nonsense", name)
    succeed("engines", "fallback", name, "transformers")
    body = chat_body(name, known.question)
    with httpx.Client(base_url=kitchen.daemon.url, timeout=LOAD_S, trust_env=False) as client:
        found = client.post("/engines/v1/chat/completions", json=body)
        assert found.status_code == 200, found.text
        assert found.headers["x-runner-engine"] == "transformers"
        told = found.headers["x-runner-fallback"]
        assert told.startswith("vllm/cpu did not start (")
        assert told.endswith("): transformers/cpu answers")
        assert found.json()["choices"][0]["message"]["content"] == known.answer
        explicit = client.post("/engines/vllm/v1/chat/completions", json=body)
        assert explicit.status_code == 502, explicit.text
        assert "x-runner-fallback" not in explicit.headers
        assert "dtype" in str(explicit.json()["error"]["log"])
    succeed("configure", "--reset", "--backend", "vllm", name)
    succeed("unload", "--all")


def test_wrong_names_are_refused_with_the_nearest(kitchen: Kitchen) -> None:
    for arguments, said in (
        (("install-runner", "--backend", "vlm"), "vllm"),
        (("install-runner", "--backend", "llama.cpp", "--gpu", "cudda"), "cuda"),
        (("install-runner", "--backend", "llama.cpp", "--variant", "cuda14"), "cuda1"),
        (
            ("install-runner", "--backend", "llama.cpp", "--gpu", "none", "--version", "b1"),
            "b11312",
        ),
        (("explain", "--backend", "vlm", GGUF), "vllm"),
        (("engines", "default-format", "ggf", "llama.cpp"), "gguf"),
    ):
        done = runner(*arguments)
        assert done.returncode in {2, 3}, done
        assert said in done.stderr

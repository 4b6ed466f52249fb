"""Why a model is served as it is: verdicts and the exact command, and nothing is started."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from runner.artifacts.media import Dialect
from runner.demo import gguf_path
from runner.dockerhost import DockerHost
from runner.engines.base import Mode
from runner.engines.verdicts import Code
from runner.errors import (
    BadInput,
    DockerUnavailable,
    EngineNotFound,
    EngineNotInstalled,
    ModelNotFound,
    NoEngineFits,
    Unsupported,
)
from runner.launch.base import Launcher, LauncherKind
from runner.launch.docker import DockerLauncher
from runner.launch.process import ProcessLauncher
from runner.scheduler.explanation import EXAMPLE, Explanation, explain
from runner.scheduler.planning import Planner
from runner.state import ChoiceKind
from tests.engines.stage import MLX, PLAIN
from tests.models.artifacts import Artifact, docker
from tests.scheduler.house import (
    FOLDER,
    LARGE,
    MODEL,
    SHIPPED,
    SMALL,
    backend,
    configure,
    install,
    on,
    package_demo,
    package_folder,
    planner,
    with_gpus,
)

BINARY = Path(__file__)


@pytest.fixture
def native(tmp_path: Path) -> Planner:
    made = backend(planner(tmp_path / "home", [*SHIPPED, MLX]), "llama.cpp", binary=BINARY)
    package_demo(made)
    package_folder(made)
    return made


def _explained(
    planner: Planner, model: str = MODEL, engine: str | None = None, docker: Launcher | None = None
) -> Explanation:
    """By launchers of which none has started anything; Docker is out of reach."""
    unreachable = DockerLauncher(DockerHost(), planner.home.identity, publish_ports=False)
    launchers: dict[LauncherKind, Launcher] = {
        LauncherKind.PROCESS: ProcessLauncher(),
        LauncherKind.DOCKER: docker or unreachable,
    }
    threads = threading.active_count()
    found = explain(planner, launchers, engine, model, Mode.COMPLETION)
    assert threading.active_count() == threads
    assert planner.home.left_instances() == ()
    assert not (planner.home.root / "cache").exists()
    return found


def test_the_command_is_the_very_one_that_a_start_would_run(native: Planner) -> None:
    found = _explained(native)
    assert found.problem is None
    assert found.order is not None
    made = native.spec(found.order, EXAMPLE, ProcessLauncher())
    words = (str(BINARY), *made.command.arguments)
    assert found.command[-len(words) :] == words
    folders = [made.folders.run, made.folders.cache]
    assert found.preparation == (
        *(("install", "-m", "700", "-d", str(folder)) for folder in folders),
        ("rm", "-f", str(made.folders.run / "engine.sock")),
    )
    assert found.inquiry.decision.reason


def test_every_verdict_on_every_variant_is_given(native: Planner) -> None:
    """None stops at the first."""
    found = _explained(on(native, replace(PLAIN, docker=None)), FOLDER)
    against = {
        one.candidate.label: {verdict.code for verdict in one.against}
        for one in found.inquiry.decision.judged
    }
    assert against["vllm/cpu"] == {Code.DOCKER, Code.INSTALLED}
    assert against["vllm/rocm"] == {Code.DOCKER, Code.ACCELERATOR, Code.INSTALLED}
    assert {Code.FORMAT, Code.DOCKER, Code.INSTALLED} <= against["llama.cpp/cuda12"]
    assert against["mlx-lm/metal"] >= {Code.PLATFORM, Code.ACCELERATOR}
    verdicts = [v for one in found.inquiry.decision.judged for v in one.against]
    assert all(v.subject and v.found and v.required and v.hint for v in verdicts)


def test_where_nothing_serves_the_problem_says_why(native: Planner) -> None:
    found = _explained(native, FOLDER)
    assert (found.order, found.command) == (None, ())
    assert isinstance(found.problem, EngineNotInstalled)
    assert found.problem.hint.startswith("runner install-runner --backend vllm")
    refused = _explained(native, MODEL, "vllm")
    assert isinstance(refused.problem, NoEngineFits)
    assert refused.inquiry.decision.choice is None


def test_where_the_command_can_not_be_made_the_problem_says_why(native: Planner) -> None:
    configure(native, MODEL, options={"cache_type_k": "odd"})
    found = _explained(native)
    assert found.order is not None
    assert found.command == ()
    assert isinstance(found.problem, BadInput)
    assert "cache_type_k" in found.problem.message


def test_where_an_order_can_not_be_made_the_choice_is_still_told(native: Planner) -> None:
    configure(native, MODEL, flags=["--host", "0.0.0.0"])
    found = _explained(native)
    assert found.order is None
    assert found.inquiry.decision.choice is not None
    assert found.problem is not None
    assert "--host is set by the runner itself" in found.problem.message


def test_pickles_are_explained_and_not_allowed_by_it(native: Planner) -> None:
    weights = docker("gguf.v3", gguf_path().read_bytes())
    config = {"format": "gguf", "pickles": True}
    Artifact(Dialect.DOCKER_V01, [weights], config).enter(native.store, "told")
    found = _explained(native, "told")
    assert found.inquiry.decision.choice is not None
    assert isinstance(found.problem, Unsupported)
    assert found.command == ()


def test_a_docker_engine_that_does_not_answer_is_the_problem(native: Planner) -> None:
    install(native, "llama.cpp/cpu")
    found = _explained(native, MODEL, "llama.cpp:cpu")
    assert found.order is not None
    assert isinstance(found.problem, DockerUnavailable)


@pytest.mark.docker
def test_a_container_is_explained_as_docker_run(native: Planner) -> None:
    install(native, "vllm/cuda")
    host = with_gpus(SMALL, LARGE)
    launcher = DockerLauncher(DockerHost(), native.home.identity)
    configure(native, FOLDER, environment={"MY_TOKEN": "secret", "MINE": "1"})
    found = _explained(on(native, host), FOLDER, "any:cuda", launcher)
    assert found.problem is None
    words = list(found.command)
    assert words[:2] == ["docker", "run"]
    assert words[words.index("--device") + 1] == "nvidia.com/gpu=1"
    image = words.index("sha256:vllm/cuda")
    assert words[image + 1 :][:2] == ["--model", "/model"]
    assert words[(at := words.index("--network")) : at + 2] == ["--network", "none"]
    assert "MINE=1" in words
    assert not any("secret" in word for word in words)
    mounts = [word for word in words if word.startswith("type=bind,source=")]
    made = [command for command in found.preparation if command[0] == "install"]
    for *options, folder in made:
        assert any(mount.startswith(f"type=bind,source={folder},") for mount in mounts)
        owned = dict(pairwise(options))
        user = words[words.index("--user") + 1]
        own = f"{os.geteuid()}:{os.getegid()}"
        assert f"{owned.get('-o')}:{owned.get('-g')}" == user or own == user


def test_fallbacks_are_told(native: Planner) -> None:
    install(native, "vllm/cpu")
    install(native, "mlx-lm/cpu", image="/opt/python")
    native.state.choose(ChoiceKind.FALLBACK, "safetensors", "mlx-lm")
    found = _explained(native, FOLDER)
    assert [one.label for one in found.inquiry.decision.fallbacks] == ["mlx-lm/cpu"]
    assert [one.candidate.label for one in found.orders] == ["vllm/cpu", "mlx-lm/cpu"]


def test_unknown_names_are_errors(native: Planner) -> None:
    with pytest.raises(ModelNotFound):
        _explained(native, "no/body")
    with pytest.raises(EngineNotFound):
        _explained(native, MODEL, "nope")

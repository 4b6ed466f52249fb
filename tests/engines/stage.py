"""Made-up engines, variants and hosts: the pieces that selection is tested with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from runner.artifacts.media import ModelFormat
from runner.dockerhost.facts import DockerFacts
from runner.engines.base import Command, Metric, Mode, Plan
from runner.engines.description import EngineDescription, Form, Requirements, Variant
from runner.engines.environment import EnvironmentRule
from runner.engines.flags import FlagRules
from runner.hardware.gpu import Gpu, Vendor
from runner.hardware.host import HostFacts
from runner.models.traits import ModelTraits
from runner.names import Accelerator
from runner.state import Install

GIB = 1 << 30


@dataclass(frozen=True)
class StagedEngine:
    """Carries out nothing; `supported` are the options that it says it could."""

    description: EngineDescription
    supported: frozenset[str] = frozenset()
    flag_rules: FlagRules = field(default_factory=lambda: FlagRules({}))
    environment_rules: Sequence[EnvironmentRule] = ()
    metrics: Mapping[Metric, str] = field(default_factory=dict)
    native_arguments: tuple[str, ...] = ()

    def command(self, plan: Plan) -> Command:
        return Command(("--model", str(plan.model_file)))

    def hint(self, log: Sequence[str]) -> str:
        return ""


def variant(engine: str, name: str, accelerator: Accelerator, **more: object) -> Variant:
    plain = Variant(
        engine=engine,
        name=name,
        accelerator=accelerator,
        version="1.0",
        form=Form.IMAGE,
        platforms=("linux/amd64",),
        folder=Path(),
        context=Path(),
    )
    return replace(plain, **more)  # type: ignore[arg-type]


def engine(
    name: str,
    formats: Mapping[ModelFormat, tuple[str, ...]],
    *variants: Variant,
    priority: int = 50,
    supported: Sequence[str] = (),
    **more: object,
) -> StagedEngine:
    about = EngineDescription(
        name=name,
        title=name,
        summary=name,
        licence="MIT",
        source="https://example.org",
        formats=formats,
        modes=frozenset({Mode.COMPLETION}),
        health_path="/health",
        priority=priority,
        variants=variants,
    )
    return StagedEngine(replace(about, **more), frozenset(supported))  # type: ignore[arg-type]


LLAMA = engine(
    "llama.cpp",
    {ModelFormat.GGUF: ("any",)},
    variant("llama.cpp", "cpu", Accelerator.CPU),
    variant(
        "llama.cpp",
        "cuda12",
        Accelerator.CUDA,
        accelerator_version="12",
        requires=Requirements("525.60.13"),
    ),
    variant(
        "llama.cpp",
        "cuda13",
        Accelerator.CUDA,
        accelerator_version="13",
        requires=Requirements("580.65.06", ("sm_75", "sm_89")),
    ),
    priority=90,
    supported=("gpu_layers",),
)
VLLM = engine(
    "vllm",
    {ModelFormat.SAFETENSORS: ("none", "awq-int4", "gptq", "fp8")},
    variant(
        "vllm",
        "cpu",
        Accelerator.CPU,
        quantizations={ModelFormat.SAFETENSORS: ("none",)},
    ),
    variant("vllm", "cuda", Accelerator.CUDA, requires=Requirements("525.60.13")),
    priority=80,
    supported=("tensor_parallel_size", "pipeline_parallel_size"),
    architectures=frozenset({"Qwen3ForCausalLM", "LlamaForCausalLM"}),
)
TRANSFORMERS = engine(
    "transformers",
    {ModelFormat.SAFETENSORS: ("none", "awq-int4"), ModelFormat.PYTORCH: ("none",)},
    variant("transformers", "cpu", Accelerator.CPU),
    variant("transformers", "cuda", Accelerator.CUDA),
    priority=40,
)
MLX = engine(
    "mlx-lm",
    {ModelFormat.SAFETENSORS: ("none", "mlx")},
    variant("mlx-lm", "cpu", Accelerator.CPU, form=Form.ENVIRONMENT, priority=10),
    variant(
        "mlx-lm",
        "metal",
        Accelerator.METAL,
        form=Form.ENVIRONMENT,
        platforms=("darwin/arm64",),
        priority=95,
    ),
    priority=30,
)
ENGINES = {one.description.name: one for one in (LLAMA, VLLM, TRANSFORMERS, MLX)}

DOCKER = DockerFacts(
    version="28.5.1",
    rootless=False,
    desktop=False,
    containerd_store=False,
    memory_bytes=64 * GIB,
    architecture="x86_64",
    runtimes=frozenset({"runc", "nvidia"}),
    cdi_devices=("nvidia.com/gpu=0", "nvidia.com/gpu=all"),
    cdi=True,
)
RTX = Gpu(
    Vendor.NVIDIA,
    0,
    uuid="GPU-1",
    name="RTX 4090",
    memory=24 * GIB,
    driver="580.95.05",
    runtime="13.0",
    target="sm_89",
)
PLAIN = HostFacts("linux", "amd64", 64 * GIB, 16, docker=replace(DOCKER, cdi_devices=()))
NVIDIA = replace(PLAIN, gpus=(RTX,), docker=DOCKER)
MAC = HostFacts("darwin", "arm64", 64 * GIB, 12, gpus=(Gpu(Vendor.APPLE, 0, name="M3"),))

GGUF = ModelTraits(ModelFormat.GGUF, "Q4_K_M", "llama", "llama", heads=32)
QWEN = ModelTraits(ModelFormat.SAFETENSORS, "none", "Qwen3ForCausalLM", "qwen3", heads=32)


def installed(*labels: str) -> tuple[Install, ...]:
    """Records of variants such as vllm/cuda."""
    return tuple(_record(*label.split("/")) for label in labels)


def _record(name: str, variant_name: str) -> Install:
    image = f"sha256:{name}-{variant_name}"
    return Install(name, variant_name, "1.0", image, "", "sha256:c", (), "built", 1, 1)


EVERYTHING = installed(
    *(one.label for about in ENGINES.values() for one in about.description.variants)
)

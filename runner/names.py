"""The words of the command line and of paths: engines, their aliases, accelerators."""

from __future__ import annotations

from difflib import get_close_matches
from enum import StrEnum

from runner.errors import BadInput, EngineNotFound


class Accelerator(StrEnum):
    CPU = "cpu"
    CUDA = "cuda"
    ROCM = "rocm"
    VULKAN = "vulkan"
    SYCL = "sycl"
    MUSA = "musa"
    CANN = "cann"
    METAL = "metal"


KNOWN = ("llama.cpp", "vllm", "sglang", "mlx-lm", "tensorrt-llm", "transformers")
"""Names that the runner knows of; which of them can be installed is the catalog's to say."""

ALIASES = {
    "llamacpp": "llama.cpp",
    "llama-cpp": "llama.cpp",
    "llama-box": "llama.cpp",
    "mlx": "mlx-lm",
    "tensorrt": "tensorrt-llm",
}

RESERVED = frozenset(
    {
        "df",
        "install",
        "install-backend",
        "logs",
        "ps",
        "requests",
        "rerank",
        "responses",
        "score",
        "status",
        "uninstall",
        "uninstall-backend",
        "unload",
        "v1",
        "_configure",
    }
)
"""Words that stand directly under `/engines/` for something else."""

GPU_ALIASES = {
    "none": Accelerator.CPU,
    "hip": Accelerator.ROCM,
    "xpu": Accelerator.SYCL,
}


def canonical_engine(name: str) -> str:
    """The engine's one name, whatever alias it was called by; raises EngineNotFound."""
    wanted = name.strip().lower()
    wanted = ALIASES.get(wanted, wanted)
    if wanted in KNOWN:
        return wanted
    near = get_close_matches(wanted, [*KNOWN, *ALIASES], n=1)
    hint = f"did you mean {near[0]}?" if near else f"engines: {', '.join(KNOWN)}"
    raise EngineNotFound(f"{name!r} is not an engine", hint=hint)


def accelerator(gpu: str) -> Accelerator | None:
    """What `--gpu` names; None for `auto`; raises BadInput."""
    wanted = gpu.strip().lower()
    if wanted == "auto":
        return None
    if wanted in GPU_ALIASES:
        return GPU_ALIASES[wanted]
    try:
        return Accelerator(wanted)
    except ValueError:
        words = ["none", "auto", *(a.value for a in Accelerator)]
        near = get_close_matches(wanted, words, n=1)
        hint = f"did you mean {near[0]}?" if near else f"one of: {', '.join(words)}"
        raise BadInput(f"--gpu {gpu!r} is not an accelerator", hint=hint) from None

"""The words of the command line and of paths: engines, their aliases, accelerators."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
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


ANY_ENGINE = "any"
ENGINE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
"""Engines and variants stand in paths, tags and folder names."""

ALIASES = {
    "llamacpp": "llama.cpp",
    "llama-cpp": "llama.cpp",
    "llama-box": "llama.cpp",
    "mlx": "mlx-lm",
    "tensorrt": "tensorrt-llm",
}

RESERVED = frozenset(
    {
        "any",
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
    """The engine's one name, whatever alias it was called by; whether there is such an engine is
    the catalog's to say. Raises EngineNotFound for what can't be a name."""
    wanted = name.strip().lower()
    wanted = ALIASES.get(wanted, wanted)
    if not ENGINE_NAME.fullmatch(wanted) or wanted in RESERVED:
        raise EngineNotFound(f"{name!r} is not an engine", hint="see `runner engines`")
    return wanted


@dataclass(frozen=True, slots=True)
class Target:
    """Who shall serve, as a path says it after `/engines/`: `vllm`, `vllm:cuda`, `vllm:cuda12`
    (a variant), `any:rocm`. `engine` is canonical, "" for any; `variant` is "" for any."""

    engine: str = ""
    variant: str = ""

    def __str__(self) -> str:
        return f"{self.engine or ANY_ENGINE}:{self.variant}" if self.variant else self.engine


def target(text: str) -> Target:
    """Raises EngineNotFound for what can't be a name."""
    name, colon, variant = text.partition(":")
    if colon and not ENGINE_NAME.fullmatch(variant):
        raise EngineNotFound(f"{text!r} is not an engine", hint="write ENGINE:VARIANT")
    is_any = name.strip().lower() == ANY_ENGINE
    return Target("" if is_any else canonical_engine(name), variant)


def near_hint(name: str, names: Sequence[str], what: str) -> str:
    """The nearest of the names that there are, else all of them."""
    near = get_close_matches(name, names, n=1)
    return f"did you mean {near[0]}?" if near else f"{what}: {', '.join(names) or 'none'}"


def gpu_word(accelerator: Accelerator) -> str:
    """What `--gpu` calls it."""
    return "none" if accelerator is Accelerator.CPU else accelerator.value


def accelerator(gpu: str) -> Accelerator | None:
    """What `--gpu` names; None for `auto`; raises BadInput."""
    wanted = gpu.strip().lower()
    if wanted == "auto":
        return None
    found = accelerator_named(wanted)
    if found is None:
        words = ["none", "auto", *(a.value for a in Accelerator)]
        raise BadInput(
            f"--gpu {gpu!r} is not an accelerator", hint=near_hint(wanted, words, "one of")
        )
    return found


def accelerator_named(word: str) -> Accelerator | None:
    """The accelerator that a word means, None where it means none."""
    wanted = word.strip().lower()
    if wanted in GPU_ALIASES:
        return GPU_ALIASES[wanted]
    return Accelerator(wanted) if wanted in set(Accelerator) else None

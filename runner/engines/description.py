"""What an engine.yaml says: an engine's facts and its variants, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from runner.artifacts.media import ModelFormat
from runner.engines.base import Mode
from runner.names import Accelerator

ANY = "any"
"""In place of a list of quantizations: the engine reads whatever the format holds."""


class Form(StrEnum):
    """What a variant is installed as."""

    IMAGE = "image"
    """A container image, built from the variant's Dockerfile or pulled."""
    ENVIRONMENT = "environment"
    """A Python environment of its own, made from the variant's lock file: a native process."""
    WHEEL = "wheel"
    """A program that came with the runner's own Python environment, or the user's own binary."""
    CODE = "code"
    """Nothing to install: a Python entry point starts it itself."""


class Origin(StrEnum):
    """Who describes an engine."""

    BUILT_IN = "built-in"
    USER = "user"
    ENTRY_POINT = "entry point"


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a host must have: the oldest driver, the GPUs' targets (sm_80, gfx1100; a variant
    compiled for any may leave them out). For `ptx_targets`, which are among the targets, there is
    PTX alone, which the driver compiles: that needs `ptx_driver` instead."""

    driver: str = ""
    targets: tuple[str, ...] = ()
    ptx_driver: str = ""
    ptx_targets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Variant:
    """An engine for an accelerator, at a version: one folder with one Dockerfile or lock file.

    `accelerator_version` is such as 12 or 13 for CUDA, "" where there is one alone. `platforms`
    are such as linux/amd64. `folder` holds its Dockerfile or lock, `context` is what a Dockerfile
    may copy from. `image` is a ready image that is used as it is, `base` what the
    Dockerfile stands on. `quantizations` narrow the engine's own by format, where this variant
    can do less. `priority` takes the place of the engine's own for this variant, if it is not 0.
    """

    engine: str
    name: str
    accelerator: Accelerator
    version: str
    form: Form
    platforms: tuple[str, ...]
    folder: Path
    context: Path
    accelerator_version: str = ""
    revision: str = ""
    base: str = ""
    image: str = ""
    requires: Requirements = Requirements()
    priority: int = 0
    quantizations: Mapping[ModelFormat, tuple[str, ...]] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return f"{self.engine}/{self.name}"


@dataclass(frozen=True, slots=True)
class EngineDescription:
    """An engine's facts. `formats` give, for each format that it reads, the quantizations that it
    knows (`any`, or such as none, awq-int4, gptq, fp8). `architectures` are those that the pinned
    version knows, empty where it tells none. `default_variant` is named where one should go
    before the others. `command` and `environment` belong to engines that are described by a user
    and have no module of their own; `listens_on_tcp` says that they can't use a Unix socket.
    """

    name: str
    title: str
    summary: str
    licence: str
    source: str
    formats: Mapping[ModelFormat, tuple[str, ...]]
    modes: frozenset[Mode]
    health_path: str
    priority: int
    variants: tuple[Variant, ...]
    origin: Origin = Origin.BUILT_IN
    architectures: frozenset[str] = frozenset()
    default_variant: str = ""
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    listens_on_tcp: bool = False
    memory: int = 1024**3
    shared_memory: int = 0
    file: Path | None = None

    def variant(self, name: str) -> Variant | None:
        return next((one for one in self.variants if one.name == name), None)

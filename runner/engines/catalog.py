"""The catalog: the variants that ship as Dockerfiles under `images/`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runner.artifacts.media import ModelFormat
from runner.errors import EngineNotInstalled, RunnerError
from runner.names import Accelerator

LABEL_ENGINE = "io.runner.engine"
LABEL_VARIANT = "io.runner.variant"
LABEL_FORMATS = "io.runner.formats"
LABEL_VERSION = "org.opencontainers.image.version"

_ARGUMENT = re.compile(r"^ARG\s+(?P<name>\w+)=(?P<value>\S+)", re.M)
_LABEL = re.compile(r'^\s*(?:LABEL\s+)?"?(?P<name>[a-z][\w.-]+)"?="?(?P<value>[^"\\\n]*)"?', re.M)
_USE = re.compile(r"\$\{?(\w+)\}?")


@dataclass(frozen=True, slots=True)
class Variant:
    """One folder with one Dockerfile: an engine for an accelerator, at a version."""

    engine: str
    name: str
    accelerator: Accelerator
    version: str
    formats: frozenset[ModelFormat]
    folder: Path

    @property
    def label(self) -> str:
        return f"{self.engine}/{self.name}"


def images_folder() -> Path:
    """`images/`: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "images", package.parent / "images"):
        if folder.is_dir():
            return folder
    raise RunnerError(
        "the engines' Dockerfiles are missing from this installation",
        hint="install runner again from its wheel or its repository",
    )


def catalog(folder: Path | None = None) -> tuple[Variant, ...]:
    """Every variant that ships, in the order of their folders' names."""
    root = folder or images_folder()
    return tuple(_variant(file, root) for file in sorted(root.glob("*/*/Dockerfile")))


def variant_for(engine: str, accelerator: Accelerator) -> Variant:
    """The shipped variant of an engine for an accelerator; raises EngineNotInstalled."""
    of_engine = [variant for variant in catalog() if variant.engine == engine]
    for variant in of_engine:
        if variant.accelerator is accelerator:
            return variant
    if not of_engine:
        names = sorted({variant.engine for variant in catalog()})
        raise EngineNotInstalled(
            f"no image for {engine} ships with this version", hint=f"there is: {', '.join(names)}"
        )
    there = ", ".join(f"--gpu {_gpu_word(variant.accelerator)}" for variant in of_engine)
    raise EngineNotInstalled(
        f"no {engine} image for {accelerator} ships with this version", hint=f"there is: {there}"
    )


def _gpu_word(accelerator: Accelerator) -> str:
    return "none" if accelerator is Accelerator.CPU else accelerator.value


def _variant(dockerfile: Path, root: Path) -> Variant:
    engine, name = dockerfile.parent.relative_to(root).parts
    labels = _labels(dockerfile.read_text(encoding="utf-8"))
    return Variant(
        engine=engine,
        name=name,
        accelerator=Accelerator(name.rstrip("0123456789")),
        version=labels[LABEL_VERSION],
        formats=frozenset(ModelFormat(text) for text in labels[LABEL_FORMATS].split(",")),
        folder=dockerfile.parent,
    )


def _labels(dockerfile: str) -> Mapping[str, str]:
    """LABEL values with the defaults of ARGs filled in."""
    arguments = {
        found["name"]: found["value"].strip("\"'") for found in _ARGUMENT.finditer(dockerfile)
    }
    return {
        found["name"]: _USE.sub(lambda use: arguments.get(use[1], use[0]), found["value"])
        for found in _LABEL.finditer(dockerfile)
    }

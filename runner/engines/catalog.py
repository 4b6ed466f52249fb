"""The catalog: the engines that ship, each described by an engine.yaml under `images/`."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from pathlib import Path

from runner.engines.description import EngineDescription, Variant
from runner.engines.engine_file import FILE_NAME, read_engine_file
from runner.errors import EngineNotFound, EngineNotInstalled, RunnerError
from runner.names import Accelerator, gpu_word


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


def descriptions(folder: Path | None = None) -> tuple[EngineDescription, ...]:
    """The engines of a folder, in the order of their names; without one, those that ship, read
    once. Raises BadEngineFile."""
    return _shipped() if folder is None else _read(folder)


@cache
def _shipped() -> tuple[EngineDescription, ...]:
    return _read(images_folder())


def _read(folder: Path) -> tuple[EngineDescription, ...]:
    return tuple(read_engine_file(file) for file in sorted(folder.glob(f"*/{FILE_NAME}")))


def description_of(name: str) -> EngineDescription:
    """The engine of this name that ships; raises EngineNotFound with the nearest."""
    for about in descriptions():
        if about.name == name:
            return about
    names = [about.name for about in descriptions()]
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there is: {', '.join(names)}"
    raise EngineNotFound(f"no engine {name!r} ships with this version", hint=hint)


def catalog(folder: Path | None = None) -> tuple[Variant, ...]:
    """Every variant, engine by engine, in the order in which engine.yaml names them."""
    return tuple(variant for about in descriptions(folder) for variant in about.variants)


def variant_for(engine: str, accelerator: Accelerator) -> Variant:
    """The shipped variant of an engine for an accelerator, the one of the highest priority where
    there are several; raises EngineNotInstalled."""
    about = next((about for about in descriptions() if about.name == engine), None)
    if about is None:
        names = ", ".join(about.name for about in descriptions())
        raise EngineNotInstalled(
            f"no image for {engine} ships with this version", hint=f"there is: {names}"
        )
    fitting = [one for one in about.variants if one.accelerator is accelerator]
    if fitting:
        return max(fitting, key=lambda variant: variant.priority or about.priority)
    there = dict.fromkeys(f"--gpu {gpu_word(variant.accelerator)}" for variant in about.variants)
    raise EngineNotInstalled(
        f"no {engine} image for {accelerator} ships with this version",
        hint=f"there is: {', '.join(there)}",
    )

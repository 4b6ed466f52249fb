"""Engines that run as native processes: which program serves, if one is here."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import BadSettings

if TYPE_CHECKING:
    from runner.settings import BackendSettings

_WHEELS = {"llama.cpp": ("xllamacpp", "runner.engines.native_llamacpp")}
"""Engine → the wheel that holds it, and our module that serves with it."""


NATIVE_VARIANT = "native"
"""What runs from a wheel or the user's own binary, beside the variants of the catalog."""


@dataclass(frozen=True, slots=True)
class NativeProgram:
    """An executable with its first arguments."""

    program: Sequence[str]
    version: str


def native_program(engine: str, settings: BackendSettings) -> NativeProgram | None:
    """The user's own binary, else the engine's wheel where it is installed; raises BadSettings."""
    if settings.binary is not None:
        return _own_binary(engine, settings.binary)
    return wheel_program(engine)


def has_wheel(engine: str) -> bool:
    """Whether an engine could run from a wheel beside the runner."""
    return engine in _WHEELS


def wheel_program(engine: str) -> NativeProgram | None:
    """The wheel of an engine, where it is installed."""
    if engine not in _WHEELS:
        return None
    wheel, module = _WHEELS[engine]
    if util.find_spec(wheel) is None:
        return None
    return NativeProgram((sys.executable, "-m", module), metadata.version(wheel))


def wheel_programs() -> Mapping[str, NativeProgram]:
    """Every engine whose wheel is installed beside the runner."""
    found = {engine: wheel_program(engine) for engine in _WHEELS}
    return {engine: program for engine, program in found.items() if program is not None}


def _own_binary(engine: str, path: Path) -> NativeProgram:
    if not path.is_file():
        raise BadSettings(
            f"backends.{engine}.binary: no such file: {path}", hint="correct it in the settings"
        )
    return NativeProgram((str(path),), f"binary {path.name}")

"""The engines that this version can start, by name."""

from __future__ import annotations

from collections.abc import Mapping

from runner.engines.base import Engine
from runner.engines.llamacpp import LlamaCpp
from runner.errors import EngineNotInstalled

ENGINES: Mapping[str, Engine] = {engine.name: engine for engine in (LlamaCpp(),)}


def engine_named(name: str) -> Engine:
    """Raises EngineNotInstalled for a known engine that this version can't start yet."""
    engine = ENGINES.get(name)
    if engine is None:
        known = ", ".join(ENGINES)
        raise EngineNotInstalled(f"{name} can't be started by this version", hint=f"use {known}")
    return engine

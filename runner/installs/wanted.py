"""What an install or an uninstall is about, from the words that a user writes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from runner.engines.base import Engine
from runner.errors import BadInput
from runner.names import (
    ANY_ENGINE,
    Accelerator,
    accelerator,
    accelerator_named,
    canonical_engine,
    target,
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """`gpu` is None and `variant` "" for any."""

    engine: str
    gpu: Accelerator | None = None
    variant: str = ""


@dataclass(frozen=True, slots=True)
class _Word:
    """One of the options, as it was written, and what it says."""

    written: str
    gpu: Accelerator | None = None
    variant: str = ""

    def contradicts(self, other: _Word) -> bool:
        gpus, variants = {self.gpu, other.gpu} - {None}, {self.variant, other.variant} - {""}
        return len(gpus) > 1 or len(variants) > 1


def wanted(
    engines: Mapping[str, Engine], backend: str, gpu: str = "auto", variant: str = ""
) -> Wanted:
    """`backend` may name a variant or an accelerator too, as paths do: `llama.cpp:cuda12`.
    Whether there are such an engine and such a variant is not looked at.

    Raises EngineNotFound for what can't be an engine's name, BadInput for a `gpu` that is none
    and for words that contradict each other.
    """
    asked = target(backend)
    name = asked.engine or canonical_engine(ANY_ENGINE)
    engine = engines.get(name)
    named = accelerator_named(asked.variant)
    words = (
        _Word(f"--backend {backend}", named)
        if named
        else _variant(engine, f"--backend {backend}", asked.variant),
        _Word(f"--gpu {gpu}", accelerator(gpu)),
        _variant(engine, f"--variant {variant}", variant),
    )
    for one, other in combinations(words, 2):
        if one.contradicts(other):
            raise BadInput(
                f"{one.written} and {other.written} contradict each other", hint="keep one of them"
            )
    return Wanted(
        name,
        next((word.gpu for word in words if word.gpu), None),
        next((word.variant for word in words if word.variant), ""),
    )


def _variant(engine: Engine | None, written: str, name: str) -> _Word:
    """Also says which accelerator it is for, where the engine knows the variant."""
    known = engine.description.variant(name) if engine else None
    return _Word(written, known.accelerator if known else None, name)

"""Errors for engines and variants that there are not, each with those that there are. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from runner.engines.description import Variant
from runner.errors import BadInput, EngineNotFound, Unsupported
from runner.names import Accelerator, gpu_word, near_hint

Refusal = TypeVar("Refusal", bound=Unsupported)


def no_engine(name: str, names: Sequence[str]) -> EngineNotFound:
    """For a name that is none of these."""
    return EngineNotFound(f"{name!r} is not an engine", hint=near_hint(name, names, "engines"))


def no_variant(engine: str, name: str, names: Sequence[str]) -> BadInput:
    """For a name that is none of these. `engine` is "" for any."""
    has = _has(engine)
    return BadInput(f"{has} variant {name!r}", hint=near_hint(name, names, "variants"))


def no_variant_for(
    engine: str, wanted: Accelerator | None, there: Sequence[Variant], kind: type[Refusal]
) -> Refusal:
    """For an accelerator that none of these variants is for. `engine` is "" for any."""
    able = {one.accelerator for one in there}
    words = [f"--gpu {gpu_word(one)}" for one in Accelerator if one in able]
    return kind(
        f"{_has(engine)} variant for {wanted}", hint=f"there is: {', '.join(words) or 'none'}"
    )


def _has(engine: str) -> str:
    return f"{engine} has no" if engine else "no engine has a"

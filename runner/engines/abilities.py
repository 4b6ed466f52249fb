"""What a candidate can do with a model, whatever the host, and which of several can. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from runner.engines.base import Mode
from runner.engines.candidate import Candidate
from runner.engines.description import ANY
from runner.models.traits import ModelTraits


def knows(quantization: str, known: tuple[str, ...]) -> bool:
    """Whether a quantization such as awq-int4 is among the known ones, which may name it whole,
    its method alone, or `any`."""
    return ANY in known or any(
        quantization == one or quantization.startswith(f"{one}-") for one in known
    )


def quantizations(candidate: Candidate, traits: ModelTraits) -> tuple[str, ...]:
    """Those of the model's format that the candidate knows; none where it does not read that."""
    known = candidate.engine.description.formats.get(traits.format, ())
    return candidate.variant.quantizations.get(traits.format, known)


def reads(candidate: Candidate, traits: ModelTraits) -> bool:
    return knows(traits.quantization, quantizations(candidate, traits))


def knows_architecture(candidate: Candidate, traits: ModelTraits) -> bool:
    known = candidate.engine.description.architectures
    return not known or bool({traits.architecture, traits.model_type} & known)


def reads_format(candidate: Candidate, traits: ModelTraits) -> bool:
    return traits.format in candidate.engine.description.formats


def does(candidate: Candidate, mode: Mode) -> bool:
    return mode in candidate.engine.description.modes


def able(
    candidate: Candidate, others: Sequence[Candidate], can: Callable[[Candidate], bool]
) -> str:
    """The engines among the others that can, as in "a or b", "" for none; of the candidate's own
    engine the variants."""
    found = (one for one in others if one.variant != candidate.variant and can(one))
    names = {one.label if one.name == candidate.name else one.name for one in found}
    return " or ".join(sorted(names))

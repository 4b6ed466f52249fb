"""Which variant of an engine suits a host best: what `--gpu auto` means. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runner.engines.base import Engine
from runner.engines.candidate import Candidate
from runner.engines.description import Variant
from runner.engines.host_evaluation import evaluate_host
from runner.engines.native import NATIVE_VARIANT, has_wheel
from runner.engines.unknown_names import no_variant, no_variant_for
from runner.engines.verdicts import Verdict
from runner.errors import BadInput, EngineNotInstalled, NoEngineFits
from runner.hardware.host import HostFacts
from runner.names import Accelerator


@dataclass(frozen=True, slots=True)
class Recommendation:
    """`passed_over` are variants that would go first, did the host have what they need."""

    variant: Variant
    passed_over: tuple[Verdict, ...]


def recommended(
    engine: Engine, host: HostFacts, wanted: Accelerator | None = None, name: str = ""
) -> Recommendation:
    """The best variant for the host; of the `wanted` accelerator, or the one of this `name`.

    Raises BadInput for a variant that there is not, EngineNotInstalled for an accelerator that
    the engine has none for, NoEngineFits where the host can't run what was asked for.
    """
    asked = _asked(engine, wanted, name)
    ranked = sorted(asked, key=_rank)
    against: list[Verdict] = []
    for variant in ranked:
        verdicts = [v for v in evaluate_host(Candidate(engine, variant), host) if not v.ok]
        if not verdicts:
            return Recommendation(variant, tuple(against))
        against += verdicts
    reasons = "; ".join(dict.fromkeys(str(verdict) for verdict in against))
    raise NoEngineFits(f"this host can't run it: {reasons}", hint=against[0].hint)


def _asked(engine: Engine, wanted: Accelerator | None, name: str) -> Sequence[Variant]:
    about = engine.description
    if name:
        found = about.variant(name)
        if found is None and name == NATIVE_VARIANT and has_wheel(about.name):
            raise BadInput(
                f"{about.name}/{name} comes with the runner: there is nothing to install",
                hint="where it is missing: pip install 'runner[embedded]'",
            )
        if found is None:
            names = [variant.name for variant in about.variants]
            raise no_variant(about.name, name, names)
        return (found,)
    variants = [one for one in about.variants if wanted in (None, one.accelerator)]
    if not variants:
        raise no_variant_for(about.name, wanted, about.variants, EngineNotInstalled)
    return variants


def _rank(variant: Variant) -> tuple[object, ...]:
    """GPU before CPU, the newest platform first."""
    version = tuple(-int(part) for part in variant.accelerator_version.split(".") if part)
    return (variant.accelerator is Accelerator.CPU, -variant.priority, version, variant.name)

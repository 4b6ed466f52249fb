"""Which variant serves a model, out of all that could, and why. Pure.

The order among those that can: the path or flag; the user's engine for the format; the user's
order of engines; priority; GPU before CPU. Within one engine: the user's or the engine's default
variant, priority, GPU before CPU, the newest version of the accelerator's platform, a container
before a native process. Names come last, so that the order of installation never matters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from runner.artifacts.media import ModelFormat
from runner.engines.candidate import Candidate, Wish
from runner.engines.evaluation import evaluate, install_hint
from runner.engines.host_evaluation import evaluate_host
from runner.engines.unknown_names import no_engine, no_variant, no_variant_for
from runner.engines.verdicts import Code, Verdict
from runner.errors import EngineNotInstalled, NoEngineFits, RunnerError
from runner.hardware.host import HostFacts
from runner.models.traits import ModelTraits
from runner.names import Target


@dataclass(frozen=True, slots=True)
class Preferences:
    """What the user wants first: `order` of engines, an engine for each format, and a variant for
    each engine. `fallbacks` are engines that take over when the first choice does not start."""

    order: Sequence[str] = ()
    formats: Mapping[ModelFormat, str] = field(default_factory=dict)
    variants: Mapping[str, str] = field(default_factory=dict)
    fallbacks: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Judged:
    """A candidate with every verdict on it."""

    candidate: Candidate
    verdicts: tuple[Verdict, ...]

    @property
    def against(self) -> tuple[Verdict, ...]:
        return tuple(verdict for verdict in self.verdicts if not verdict.ok)

    @property
    def can_serve(self) -> bool:
        return not self.against

    @property
    def hard(self) -> tuple[Verdict, ...]:
        """What an installation would not mend; all where there is nothing else."""
        return tuple(v for v in self.against if v.code is not Code.INSTALLED) or self.against

    @property
    def only_was_set(self) -> bool:
        """Whether it is installed, and only something that was set for the model is in its way."""
        codes = {verdict.code for verdict in self.against}
        return bool(codes) and codes <= {Code.OPTION, Code.GPUS, Code.HEADS}

    @property
    def could_serve(self) -> bool:
        """Whether nothing is missing but its installation."""
        return {verdict.code for verdict in self.against} <= {Code.INSTALLED}


@dataclass(frozen=True, slots=True)
class Decision:
    """All candidates in the order of preference, those that can serve first, and `reason`: why
    the first one is. Those after it that may take over are its `fallbacks`."""

    judged: tuple[Judged, ...]
    wish: Wish
    reason: str
    fallbacks: tuple[Candidate, ...]

    @property
    def choice(self) -> Candidate | None:
        first = next(iter(self.judged), None)
        return first.candidate if first and first.can_serve else None

    @property
    def unused_gpu(self) -> Judged | None:
        """What would use a GPU of this host, were it installed, its driver newer or the GPU handed
        to containers; None where the choice uses one."""
        if self.choice is None or self.choice.has_gpu:
            return None
        mendable = {Code.INSTALLED, Code.DRIVER, Code.TARGET, Code.ACCESS}
        return next(
            (
                one
                for one in self.judged
                if one.candidate.has_gpu and {verdict.code for verdict in one.against} <= mendable
            ),
            None,
        )

    def chosen(self) -> Candidate:
        """Raises EngineNotInstalled, NoEngineFits."""
        if self.choice is None:
            raise _refusal(self)
        return self.choice


def decide(
    candidates: Sequence[Candidate],
    traits: ModelTraits,
    host: HostFacts,
    wish: Wish,
    preferences: Preferences,
) -> Decision:
    """Judges every candidate and puts them in order. Raises EngineNotFound for an engine that is
    not among them, BadInput for a variant that it does not have."""
    _check_names(candidates, wish)
    here = [one for one in candidates if all(verdict.ok for verdict in evaluate_host(one, host))]
    judged = [Judged(one, evaluate(one, traits, host, wish, here)) for one in candidates]
    ordered = _ordered(judged, traits.format, preferences)
    able = [one.candidate for one in ordered if one.can_serve]
    return Decision(
        judged=tuple(ordered),
        wish=wish,
        reason=_reason(able, ordered, traits.format, wish, preferences) if able else "",
        fallbacks=() if wish.engine else _fallbacks(able, preferences.fallbacks),
    )


def _check_names(candidates: Sequence[Candidate], wish: Wish) -> None:
    names = sorted({one.name for one in candidates})
    if wish.engine and wish.engine not in names:
        raise no_engine(wish.engine, names)
    variants = sorted({one.variant.name for one in candidates if wish.engine in ("", one.name)})
    if wish.variant and wish.variant not in variants:
        raise no_variant(wish.engine, wish.variant, variants)


def _ordered(
    judged: Sequence[Judged], wanted: ModelFormat, preferences: Preferences
) -> list[Judged]:
    by_engine: dict[str, list[Judged]] = {}
    for one in judged:
        by_engine.setdefault(one.candidate.name, []).append(one)
    for group in by_engine.values():
        group.sort(key=lambda one: _within(one, preferences))
    groups = sorted(by_engine.values(), key=lambda group: _between(group[0], wanted, preferences))
    flat = [one for group in groups for one in group]
    return sorted(flat, key=_readiness)


def _readiness(one: Judged) -> int:
    """Those that can serve, those that only lack installation, then the others."""
    if one.can_serve:
        return 0
    return 1 if one.could_serve else 2


def _within(one: Judged, preferences: Preferences) -> tuple[object, ...]:
    candidate = one.candidate
    variant, about = candidate.variant, candidate.engine.description
    default = preferences.variants.get(about.name) or about.default_variant
    return (
        _readiness(one),
        variant.name != default,
        -candidate.priority,
        not candidate.has_gpu,
        tuple(-number for number in _numbers(variant.accelerator_version)),
        not candidate.in_container,
        variant.name,
    )


def _between(
    best: Judged, wanted: ModelFormat, preferences: Preferences
) -> tuple[int, bool, int, int, bool, str]:
    candidate = best.candidate
    order = list(preferences.order)
    return (
        _readiness(best),
        preferences.formats.get(wanted) != candidate.name,
        order.index(candidate.name) if candidate.name in order else len(order),
        -candidate.priority,
        not candidate.has_gpu,
        candidate.name,
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def _fallbacks(able: Sequence[Candidate], names: Sequence[str]) -> tuple[Candidate, ...]:
    """The best candidate of each engine that the user named, but the one that is chosen."""
    found = (next((one for one in able if one.name == name), None) for name in names)
    return tuple(one for one in found if one is not None and one is not able[0])


def _reason(
    able: Sequence[Candidate],
    judged: Sequence[Judged],
    wanted: ModelFormat,
    wish: Wish,
    preferences: Preferences,
) -> str:
    """Why the first is first, and what became of the user's own wishes."""
    choice = able[0]
    notes = [_between_reason(able, wanted, wish, preferences)]
    if preferences.variants.get(choice.name) == choice.variant.name:
        notes.append(f"{choice.variant.name} is your default variant of it")
    mine = preferences.formats.get(wanted, "")
    if mine not in ("", choice.name) and not wish.engine:
        first = next((one for one in judged if one.candidate.name == mine), None)
        why = first.hard[0].found if first and first.hard else "there is no such engine"
        notes.append(f"{mine}, which is yours for {wanted}, can't: {why}")
    return "; ".join(notes)


def _between_reason(
    able: Sequence[Candidate], wanted: ModelFormat, wish: Wish, preferences: Preferences
) -> str:
    choice = able[0]
    second = next((one for one in able if one.name != choice.name), None)
    other = second.name if second else ""
    reasons = (
        (wish.engine, f"{choice.name} was asked for by name"),
        (preferences.formats.get(wanted) == choice.name, f"{choice.name} is yours for {wanted}"),
        (choice.name in preferences.order, f"{choice.name} is first in your order of preference"),
        (second is None, f"only {choice.name} can serve it with what is installed here"),
        (
            second and choice.priority > second.priority,
            f"{choice.name} goes before {other} for {wanted}",
        ),
        (
            second and choice.has_gpu and not second.has_gpu,
            f"{choice.label} uses the GPU, {second.label if second else ''} does not",
        ),
    )
    equal = f"{choice.name} and {other} are equal, and names decide"
    return next((reason for holds, reason in reasons if holds), equal)


def _refusal(decision: Decision) -> RunnerError:
    """Names what speaks against those nearest to serving, and the next step."""
    judged, who = decision.judged, decision.wish.engine
    if not judged:
        return EngineNotInstalled("there is no engine at all", hint="runner install-runner")
    nearest = judged[0]
    if not nearest.could_serve:
        nearest = next((one for one in judged if one.only_was_set), nearest)
    candidate = nearest.candidate
    if nearest.only_was_set:
        verdict = nearest.against[0]
        return NoEngineFits(
            f"{candidate.label} could serve this model, but {verdict.found}, required: "
            f"{verdict.required}",
            hint=verdict.hint,
        )
    if nearest.could_serve:
        return EngineNotInstalled(
            f"no engine that could serve this model is installed: {candidate.label} could",
            hint=install_hint(candidate),
        )
    asked = [one for one in judged if all(v.ok for v in one.verdicts if v.code is Code.ENGINE)]
    if not asked:
        return _no_variant_for(judged, decision.wish)
    least = min(_distance(one) for one in asked)
    worth = [one for one in asked if _distance(one) == least]
    hint = min((verdict for one in worth for verdict in one.hard), key=_needs_another_host).hint
    subject = f"{who} can't" if who else "no engine can"
    return NoEngineFits(f"{subject} serve this model: {_shared(worth)}", hint=hint)


def _needs_another_host(verdict: Verdict) -> bool:
    """Another model is nearer than another machine."""
    return verdict.code in {Code.PLATFORM, Code.ACCELERATOR}


def _shared(judged: Sequence[Judged]) -> str:
    """Each reason once, with the variants that it is against."""
    labels: dict[str, list[str]] = {}
    for one in judged:
        for verdict in one.hard:
            told = f"{verdict.found}, required: {verdict.required}"
            labels.setdefault(told, []).append(verdict.subject)
    return "; ".join(f"{', '.join(dict.fromkeys(names))}: {why}" for why, names in labels.items())


def _distance(one: Judged) -> tuple[bool, bool, int]:
    """How far a candidate is from serving: another format can't be helped, nor can its lack of
    hardware; an option can."""
    codes = {verdict.code for verdict in one.against}
    hard = {Code.PLATFORM, Code.ACCELERATOR, Code.QUANTIZATION, Code.ARCHITECTURE, Code.MODE}
    return Code.FORMAT in codes, bool(codes & hard), len(one.against)


def _no_variant_for(judged: Sequence[Judged], wish: Wish) -> RunnerError:
    """An accelerator was asked for that nothing which was asked for is made for."""
    asked = [
        one.candidate.variant
        for one in judged
        if wish.engine in ("", one.candidate.name)
        and wish.variant in ("", one.candidate.variant.name)
    ]
    who = str(Target(wish.engine, wish.variant))
    return no_variant_for(who, wish.accelerator, asked, NoEngineFits)

"""What a plug-in says of its engine, checked: nothing further on has to doubt a type or a name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from runner.artifacts.media import ModelFormat
from runner.engines import shapes
from runner.engines.base import Command, Metric, Mode
from runner.engines.description import (
    EngineDescription,
    Form,
    Origin,
    Requirements,
    Variant,
)
from runner.engines.engine_file import DOCKERFILE, LOCK
from runner.engines.environment import EnvironmentRule, Policy
from runner.engines.fields import Shape
from runner.engines.flags import FlagRules, Takes, Target
from runner.engines.options import Options
from runner.errors import BadInput
from runner.names import ALIASES, RESERVED, Accelerator

_OPTIONS = frozenset(one.name for one in fields(Options))
_RULES: Mapping[str, Any] = {
    "known": bool | Takes,
    "own": str,
    "dangerous": str,
    "nested": Target,
    "impossible": str,
    "options": str,
    "gone": str,
    "says": frozenset,
}
"""What the mappings of FlagRules hold."""
_MAYBE_EMPTY = {
    "image": shapes.IMAGE,
    "base": shapes.IMAGE,
    "accelerator_version": shapes.NUMBERS,
    "revision": shapes.VERSION,
}
_TOLD = 10
_PRIORITY = 1000


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything of the `Engine` protocol that is no function."""

    description: EngineDescription
    supported: frozenset[str]
    flag_rules: FlagRules
    environment_rules: tuple[EnvironmentRule, ...]
    metrics: Mapping[Metric, str]
    native_arguments: tuple[str, ...]


def checked(plugin: Any, source: str, runs_itself: bool) -> Facts:  # noqa: ANN401
    """Raises BadInput with all that is wrong, and whatever the plug-in itself raises."""
    description = getattr(plugin, "description", None)
    if not isinstance(description, EngineDescription):
        raise _refused(source, [f"`description` is {_kind(description)}, no EngineDescription"])
    facts = Facts(
        description=replace(description, origin=Origin.ENTRY_POINT),
        supported=getattr(plugin, "supported", frozenset()),
        flag_rules=getattr(plugin, "flag_rules", FlagRules({})),
        environment_rules=getattr(plugin, "environment_rules", ()),
        metrics=getattr(plugin, "metrics", {}),
        native_arguments=getattr(plugin, "native_arguments", ()),
    )
    wrong = [*_of_facts(facts), *_of_description(description)]
    if not wrong:
        wrong = [*_of_form(plugin, facts, runs_itself)]
    if wrong:
        raise _refused(source, wrong)
    return _copied(facts)


def _copied(facts: Facts) -> Facts:
    """In plain collections: one of the plug-in's own could run code whenever it is read."""
    about = facts.description
    rules: dict[str, Any] = {name: dict(getattr(facts.flag_rules, name)) for name in _RULES}
    variants = (
        replace(one, quantizations=dict(one.quantizations)) for one in facts.description.variants
    )
    return replace(
        facts,
        description=replace(about, formats=dict(about.formats), variants=tuple(variants)),
        supported=frozenset(facts.supported),
        flag_rules=replace(facts.flag_rules, **rules),
        environment_rules=tuple(facts.environment_rules),
        metrics=dict(facts.metrics),
    )


def is_command(made: object) -> bool:
    return (
        isinstance(made, Command)
        and _are(made.arguments, str)
        and isinstance(made.environment, Mapping)
        and all(isinstance(text, str) for pair in made.environment.items() for text in pair)
    )


def _refused(source: str, wrong: Sequence[str]) -> BadInput:
    more = [f"and {len(wrong) - _TOLD} more"] if len(wrong) > _TOLD else []
    return BadInput(
        f"{source} is left out: {'; '.join([*wrong[:_TOLD], *more])}",
        hint="its maker has to correct that: see docs/custom-engines.md",
    )


def _of_facts(facts: Any) -> Iterator[str]:  # noqa: ANN401 - no type of it is sure yet
    supported, rules = facts.supported, facts.environment_rules
    if not isinstance(supported, (frozenset, set)) or not _are(supported, str):
        yield f"`supported` is {_kind(supported)}, no set of names"
    elif unknown := sorted(set(supported) - _OPTIONS):
        yield f"`supported` names {unknown[0]!r}, which is no field of `Options`"
    yield from _flag_rules(facts.flag_rules)
    if not _are(rules, EnvironmentRule) or not all(_is_rule(rule) for rule in rules):
        yield "`environment_rules` is no sequence of EnvironmentRule with texts and a Policy"
    if not isinstance(facts.metrics, Mapping) or not all(
        isinstance(metric, Metric) and isinstance(name, str)
        for metric, name in facts.metrics.items()
    ):
        yield "`metrics` is no mapping from Metric to names"
    if not isinstance(facts.native_arguments, tuple) or not _are(facts.native_arguments, str):
        yield "`native_arguments` is no tuple of texts"


def _flag_rules(rules: Any) -> Iterator[str]:  # noqa: ANN401
    if not isinstance(rules, FlagRules):
        yield f"`flag_rules` is {_kind(rules)}, no FlagRules"
        return
    for name, kinds in _RULES.items():
        found = getattr(rules, name)
        if not isinstance(found, Mapping) or not all(
            isinstance(key, str) and isinstance(value, kinds) for key, value in found.items()
        ):
            yield f"`flag_rules.{name}` is no mapping from names, or holds something odd"


def _is_rule(rule: Any) -> bool:  # noqa: ANN401
    texts = (rule.pattern, rule.reason, rule.value)
    return isinstance(rule.policy, Policy) and all(isinstance(text, str) for text in texts)


def _of_description(about: Any) -> Iterator[str]:  # noqa: ANN401
    yield from _text("name", about.name, shapes.NAME)
    if about.name in RESERVED or about.name in ALIASES:
        yield f"name: {about.name!r} stands for something else"
    for field in ("title", "summary", "licence", "source"):
        if getattr(about, field) != "":
            yield from _text(field, getattr(about, field), shapes.LINE)
    yield from _text("health_path", about.health_path, shapes.PATH)
    yield from _number("priority", about.priority, -_PRIORITY, _PRIORITY)
    yield from _number("memory", about.memory, 0, 1 << 50)
    yield from _formats("formats", about.formats)
    if not about.formats:
        yield "formats: there is none"
    if not about.modes or not isinstance(about.modes, frozenset) or not _are(about.modes, Mode):
        yield "modes: found none, or something else than a frozenset of Mode"
    if not isinstance(about.architectures, frozenset) or not _are(about.architectures, str):
        yield "architectures: it is no frozenset of names"
    if not isinstance(about.listens_on_tcp, bool):
        yield f"listens_on_tcp: found {_kind(about.listens_on_tcp)}, allowed: True, False"
    if about.file is not None and not isinstance(about.file, Path):
        yield f"file: found {_kind(about.file)}, allowed: a Path, or None"
    yield from _variants(about)


def _variants(about: Any) -> Iterator[str]:  # noqa: ANN401
    if not isinstance(about.variants, tuple) or not _are(about.variants, Variant):
        yield "variants: it is no tuple of Variant"
        return
    if not about.variants:
        yield "variants: there is none"
    names = [variant.name for variant in about.variants]
    if len(set(names)) < len(names):
        yield "variants: two of them have one name"
    if about.default_variant and about.default_variant not in names:
        yield f"default_variant: there is no variant {about.default_variant!r}"
    for index, variant in enumerate(about.variants):
        yield from (f"variants[{index}].{text}" for text in _variant(variant, about.name))


def _variant(variant: Any, engine: str) -> Iterator[str]:  # noqa: ANN401
    yield from _text("name", variant.name, shapes.NAME)
    if variant.engine != engine:
        yield f"engine: found {variant.engine!r}, allowed: {engine!r}"
    yield from _text("version", variant.version, shapes.VERSION)
    if not isinstance(variant.accelerator, Accelerator):
        yield f"accelerator: found {_kind(variant.accelerator)}, allowed: an Accelerator"
    if not isinstance(variant.form, Form) or variant.form is Form.WHEEL:
        yield f"form: found {variant.form!r}, allowed: image, environment, code"
    if not isinstance(variant.platforms, tuple) or not variant.platforms:
        yield "platforms: found none, allowed: a tuple such as ('linux/amd64',)"
    else:
        for platform in variant.platforms:
            yield from _text("platforms", platform, shapes.PLATFORM)
    for field, shape in _MAYBE_EMPTY.items():
        if getattr(variant, field) != "":
            yield from _text(field, getattr(variant, field), shape)
    for field in ("folder", "context"):
        if not isinstance(getattr(variant, field), Path):
            yield f"{field}: found {_kind(getattr(variant, field))}, allowed: a Path"
    if not isinstance(variant.requires, Requirements):
        yield f"requires: found {_kind(variant.requires)}, allowed: Requirements"
    elif not _is_plain(variant.requires):
        yield "requires: the driver is no text, or the targets are no tuple of texts"
    yield from _number("priority", variant.priority, -_PRIORITY, _PRIORITY)
    yield from _formats("quantizations", variant.quantizations)


def _of_form(plugin: object, facts: Facts, runs_itself: bool) -> Iterator[str]:
    """What each variant's form needs beside its description."""
    for variant in facts.description.variants:
        if variant.form is Form.CODE:
            if not runs_itself:
                yield f"{variant.label} runs by code, and `start`, `stop` or `health` is missing"
            continue
        if not callable(getattr(plugin, "command", None)):
            yield f"{variant.label} needs `command`, which is missing"
        needed = DOCKERFILE if variant.form is Form.IMAGE else LOCK
        if not variant.image and not (variant.folder / needed).is_file():
            yield f"{variant.label}: the file {variant.folder / needed} is missing"
        if variant.form is Form.ENVIRONMENT and not facts.native_arguments:
            yield f"{variant.label} needs `native_arguments`, such as ('-m', 'my_server')"


def _formats(where: str, found: object) -> Iterator[str]:
    if not isinstance(found, Mapping):
        yield f"{where}: found {_kind(found)}, allowed: a mapping from ModelFormat"
        return
    for name, known in found.items():
        if not isinstance(name, ModelFormat):
            yield f"{where}: found {name!r}, allowed: a ModelFormat"
        if not isinstance(known, tuple) or not known or not _are(known, str):
            yield f"{where}: found {known!r:.60}, allowed: a tuple such as ('any',)"


def _text(where: str, found: object, shape: Shape) -> Iterator[str]:
    if not isinstance(found, str) or not shape.pattern.fullmatch(found):
        yield f"{where}: found {found!r:.60}, allowed: {shape.words}"


def _number(where: str, found: object, low: int, high: int) -> Iterator[str]:
    if not isinstance(found, int) or not low <= found <= high:
        yield f"{where}: found {found!r:.60}, allowed: a whole number from {low} to {high}"


def _are(found: object, kind: type) -> bool:
    """Whether it is a collection, all of one kind; a text is no list of texts."""
    if not isinstance(found, (tuple, list, frozenset, set)):
        return False
    return all(isinstance(one, kind) for one in found)


def _kind(found: object) -> str:
    return "missing" if found is None else f"of the type {type(found).__name__}"


def _is_plain(requires: Requirements) -> bool:
    drivers, targets = (requires.driver, requires.ptx_driver), requires.targets
    return _are(drivers, str) and _are(targets, str) and _are(requires.ptx_targets, str)

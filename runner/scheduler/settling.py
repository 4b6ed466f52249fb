"""From what was set, in the settings and for a model, to what an engine is started with. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from runner.engines.base import Engine
from runner.engines.configured import Configured
from runner.engines.environment import COMMON_RULES, NATIVE_RULES, settle
from runner.engines.flag_names import named, routed, target_of
from runner.engines.flags import checked
from runner.engines.meanings import Reader, of_all, of_flags, of_parameter, reader_of, without
from runner.engines.option_values import options_from, options_json
from runner.engines.options import Options
from runner.engines.templates import refuse_named_file
from runner.engines.vllm_flags import flag_rules as vllm_rules
from runner.engines.vllm_overrides import Routed, route_overrides
from runner.errors import BadInput, BadSettings
from runner.scheduler.order import Settled
from runner.settings import BackendSettings


@dataclass(frozen=True, slots=True)
class _Lowered:
    """What was set in one place, in options and flags alone."""

    configured: Configured
    messages: tuple[str, ...]


def of_settings(engine: str, backend: BackendSettings) -> Configured:
    """What the settings file says for every model of an engine; raises BadSettings."""
    values = dict(backend.options)
    if backend.context_size is not None:
        values.setdefault("context_size", backend.context_size)
    try:
        options = options_from(values)
    except BadInput as error:
        raise BadSettings(f"backends.{engine}.options: {error.message}", hint=error.hint) from error
    return Configured(options, {}, backend.flags, backend.environment)


def settled(
    engine: Engine, backend: BackendSettings, wanted: Configured, *, native: bool
) -> Settled:
    """In the engine's own terms. `wanted` is what was configured for the model, over the
    settings; `native`: outside of a container. Raises BadInput, BadSettings for what the engine
    refuses."""
    reader = reader_of(engine, backend)
    own = _lowered(wanted, reader)
    meant = of_all(own.configured, (reader,))
    below = of_settings(engine.description.name, backend)
    if wanted.flags:
        refuse_named_file(routed(wanted.flags, reader.rules).options)
        below = replace(below, flags=())
    under = _lowered(below, reader, above=meant)
    under_left = without(under.configured, meant, (reader,))
    merged = replace(
        own.configured.over(under_left), flags=(*under_left.flags, *own.configured.flags)
    )
    flags = checked(merged.flags, reader.rules, allowed=reader.allowed)
    overridden = _overridden(engine, merged, reader)
    options = replace(merged.options, hf_overrides=overridden.remaining)
    common = (*COMMON_RULES, *NATIVE_RULES) if native else COMMON_RULES
    environment = settle(merged.environment, (*engine.environment_rules, *common), own={})
    return Settled(
        options=_automatic(options.over(overridden.options)),
        flags=(*overridden.flags, *flags),
        environment=environment.environment,
        fates=environment.fates,
        messages=(*own.messages, *under.messages, *overridden.messages),
    )


def routed_overrides(overrides: Mapping[str, Any], above: Collection[str] = ()) -> Routed:
    """What stands among the overrides of a model's config, and is really the engine's own, less
    what speaks of `above`. Raises BadInput that names the key."""
    found = Routed()
    for key, value in overrides.items():
        part = _routed_key(key, value)
        meant = {*part.options.set_fields(), *_meant_by(part.flags)}
        if not meant.isdisjoint(above):
            continue
        found = Routed(
            part.options.over(found.options),
            (*found.flags, *part.flags),
            {**found.remaining, **part.remaining},
            (*found.messages, *part.messages),
        )
    return found


def _routed_key(key: str, value: Any) -> Routed:  # noqa: ANN401 - a user's JSON
    try:
        return route_overrides({key: value})
    except BadInput as error:
        named_key = f"hf_overrides.{key}"
        if error.message.startswith(named_key):
            raise
        raise BadInput(f"{named_key}: {error.message}", hint=error.hint) from error


def _meant_by(flags: Sequence[str]) -> frozenset[str]:
    claims = of_flags(flags, (Reader(vllm_rules()),)) if flags else ()
    return frozenset[str]().union(*(claim.meanings for claim in claims))


def _lowered(configured: Configured, reader: Reader, above: Collection[str] = ()) -> _Lowered:
    """The flags that parameters stand for come first. `above` is meant by what goes before: no
    message speaks of it. Raises BadInput."""
    rules, own = reader.rules, set(configured.options.set_fields())
    moved = routed(configured.flags, rules, {*above, *own})
    flags = of_flags(moved.flags, (reader,))
    said = frozenset(moved.options).union(*(claim.meanings for claim in flags))
    parameters = {
        name: value
        for name, value in configured.parameters.items()
        if not target_of(name, rules) or of_parameter(name, rules).isdisjoint(said)
    }
    translated = named(parameters, rules, {*above, *own})
    values = {**translated.options, **moved.options, **options_json(configured.options)}
    done = Configured(
        options_from(values),
        {},
        (*translated.flags, *moved.flags),
        configured.environment,
    )
    return _Lowered(done, (*translated.messages, *moved.messages))


def _overridden(engine: Engine, merged: Configured, reader: Reader) -> Routed:
    overrides = merged.options.hf_overrides
    if "hf_overrides" not in engine.supported:
        return Routed(remaining=overrides)
    return routed_overrides(overrides, of_all(merged, (reader,)) - {"hf_overrides"})


def _automatic(options: Options) -> Options:
    """-1 layers means that the engine shall decide: as if nothing had been said."""
    if options.gpu_layers != -1:
        return options
    return options_from({**options_json(options), "gpu_layers": None})

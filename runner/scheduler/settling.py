"""From what was set, in the settings and for a model, to what an engine is started with. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from runner.engines.base import Engine
from runner.engines.configured import Configured
from runner.engines.environment import COMMON_RULES, NATIVE_RULES, settle
from runner.engines.flag_names import named, routed
from runner.engines.flags import checked
from runner.engines.option_values import options_from, options_json
from runner.engines.options import Options
from runner.engines.templates import refuse_named_file
from runner.engines.vllm_overrides import Routed, route_overrides
from runner.errors import BadInput, BadSettings
from runner.scheduler.order import Settled
from runner.settings import BackendSettings


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
    merged = wanted.over(of_settings(engine.description.name, backend))
    allowed = frozenset(backend.allowed_flags)
    rules = engine.flag_rules
    translated, moved = named(merged.parameters, rules), routed(merged.flags, rules)
    if wanted.flags:
        refuse_named_file(moved.options)
    flags = checked((*translated.flags, *moved.flags), rules, allowed=allowed)
    options = _with(merged.options, {**translated.options, **moved.options})
    overridden = _routed_overrides(engine, options)
    options = replace(options, hf_overrides=overridden.remaining).over(overridden.options)
    common = (*COMMON_RULES, *NATIVE_RULES) if native else COMMON_RULES
    environment = settle(merged.environment, (*engine.environment_rules, *common), own={})
    return Settled(
        options=_automatic(options),
        flags=(*overridden.flags, *flags),
        environment=environment.environment,
        fates=environment.fates,
        messages=(*translated.messages, *moved.messages, *overridden.messages),
    )


def _routed_overrides(engine: Engine, options: Options) -> Routed:
    """What stands among the overrides of a model's config, and is really the engine's own."""
    if "hf_overrides" not in engine.supported:
        return Routed(Options(), (), options.hf_overrides, ())
    return route_overrides(options.hf_overrides)


def _with(options: Options, values: Mapping[str, str]) -> Options:
    """An option that is set by its own name goes before the same under an engine's name."""
    return options_from({**values, **options_json(options)}) if values else options


def _automatic(options: Options) -> Options:
    """-1 layers means that the engine shall decide: as if nothing had been said."""
    if options.gpu_layers != -1:
        return options
    return options_from({**options_json(options), "gpu_layers": None})

"""`hf_overrides`: what of it is really a flag of vLLM's, and what changes a model's config.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.engines.flags import Takes
from runner.engines.option_values import ALIASES, options_from
from runner.engines.options import Options, RopeScaling
from runner.engines.vllm_flags import flag_rules
from runner.errors import BadInput

CONFIG_FIELDS = frozenset({"dtype", "tokenizer_class", "quantization_config", "chat_template"})
"""Names in config.json, whatever flags there are of the same name."""

PARAMETERS = "rope_parameters"
_OLD_PARAMETERS = "rope_scaling"
_THETA = "rope_theta"
_ORIGINAL = "original_max_position_embeddings"
_TYPES = {RopeScaling.NONE: "default", RopeScaling.LINEAR: "linear", RopeScaling.YARN: "yarn"}


@dataclass(frozen=True, slots=True)
class Routed:
    """`options` and `flags` were meant for vLLM itself, `remaining` for the model's config.json;
    `messages` tell a person of each key that went another way."""

    options: Options = field(default_factory=Options)
    flags: tuple[str, ...] = ()
    remaining: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[str, ...] = ()


def route_overrides(overrides: Mapping[str, Any]) -> Routed:
    """Pure. Raises BadInput for a value that the option or the flag can't have."""
    options: dict[str, Any] = {}
    flags: list[str] = []
    remaining: dict[str, Any] = {}
    messages: list[str] = []
    for key, value in overrides.items():
        flag = _flag_of(key)
        option = _option_of(key, flag)
        if option:
            options[option] = value
            messages.append(f"hf_overrides.{key} is an option of vLLM itself: it sets {option}")
        elif flag:
            words = _words(key, flag, value)
            flags += words
            messages.append(f"hf_overrides.{key} is a flag of vLLM itself: {' '.join(words)}")
        else:
            remaining[key] = value
    return Routed(options_from(options), tuple(flags), remaining, tuple(messages))


def config_overrides(overrides: Mapping[str, Any], options: Options) -> Mapping[str, Any]:
    """What becomes of config.json: the overrides, with the rope options as rope parameters.

    vLLM replaces a model's rope parameters as a whole, and looks at no others: a base alone would
    change nothing, a scaling alone would lose the base. Raises BadInput where one lacks.
    """
    result = dict(overrides)
    given = [result.pop(name) for name in (_OLD_PARAMETERS, PARAMETERS) if name in result]
    theta = result.pop(_THETA, None)
    whole: dict[str, Any] = {}
    for part in given:
        whole |= _object(part)
    if any(isinstance(value, Mapping) for value in whole.values()):
        return {**result, PARAMETERS: whole}  # one set for each type of layer: nothing to add
    if "type" in whole:
        whole.setdefault("rope_type", whole.pop("type"))
    whole |= {} if theta is None else {_THETA: theta}
    whole |= _from_options(options)
    if not whole:
        return result
    _check_complete(whole)
    return {**result, PARAMETERS: whole}


def _from_options(options: Options) -> dict[str, Any]:
    scaling, scale, base = options.rope_scaling, options.rope_scale, options.rope_freq_base
    named = {
        "rope_type": None if scaling is None else _TYPES[scaling],
        "factor": scale,
        _THETA: base,
    }
    return {name: value for name, value in named.items() if value is not None}


def _check_complete(parameters: Mapping[str, Any]) -> None:
    missing = []
    kind = parameters.get("rope_type")
    if kind is None:
        missing.append("rope_scaling (none, linear or yarn)")
    if _THETA not in parameters:
        missing.append("rope_freq_base (rope_theta in config.json)")
    if kind not in (None, "default", "llama3", "longrope") and "factor" not in parameters:
        missing.append("rope_scale (the factor)")
    if kind == "yarn" and _ORIGINAL not in parameters:
        missing.append(f'hf_overrides {{"{PARAMETERS}": {{"{_ORIGINAL}": …}}}}')
    if missing:
        raise BadInput(
            f"vLLM replaces all of a model's rope parameters, and lacks {', '.join(missing)}",
            hint="set these too, as the model's config.json has them where they shall not change",
        )


def _object(value: Any) -> Mapping[str, Any]:  # noqa: ANN401 - a user's JSON
    if not isinstance(value, Mapping):
        raise BadInput(f"hf_overrides.{PARAMETERS} is {value!r}, not an object", hint="{…}")
    return value


def _flag_of(key: str) -> str:
    flag = "--" + key.replace("_", "-")
    return flag if key not in CONFIG_FIELDS and flag in flag_rules().known else ""


def _option_of(key: str, flag: str) -> str:
    """Also by names that only other engines' flags have, such as n_ctx."""
    name = ALIASES.get(key, key)
    is_option = name in Options.__dataclass_fields__ and key not in CONFIG_FIELDS
    is_own = key in ALIASES or bool(flag)
    return name if is_option and is_own and name != "hf_overrides" else ""


def _words(key: str, flag: str, value: Any) -> tuple[str, ...]:  # noqa: ANN401 - a user's JSON
    """Raises BadInput for a flag that is refused, as for one among a user's own flags."""
    from runner.engines.flags import checked

    rules = flag_rules()
    if Takes(rules.known[flag]) is Takes.NOTHING:
        if not isinstance(value, bool):
            raise BadInput(f"hf_overrides.{key} is {value!r}, not true or false", hint="true")
        opposite = "--no-" + flag[2:]
        return checked((flag if value else opposite,), rules)
    text = value if isinstance(value, str) else json.dumps(value)
    return checked((f"{flag}={text}",), rules)

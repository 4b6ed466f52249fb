"""Options from and to plain values: JSON bodies, settings files, the command line's texts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from enum import StrEnum
from math import isfinite
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from runner.engines.arguments import LONGEST, is_argument
from runner.engines.options import Options, Switch
from runner.errors import BadInput
from runner.names import near_hint

_TYPES = get_type_hints(Options)

ALIASES = {
    "ctx_size": "context_size",
    "n_ctx": "context_size",
    "max_model_len": "context_size",
    "n_parallel": "parallel",
    "max_num_seqs": "parallel",
    "n_batch": "batch_size",
    "n_ubatch": "micro_batch_size",
    "n_gpu_layers": "gpu_layers",
    "n_threads": "threads",
    "use_mmap": "mmap",
    "use_mlock": "memory_lock",
    "tool_call_parser": "tool_parser",
    "max_num_batched_tokens": "max_batched_tokens",
}
"""What the engines and other runners call the same."""

_BOUNDS: Mapping[str, tuple[float, float]] = {
    "context_size": (1, 2**31 - 1),
    "parallel": (1, 65536),
    "batch_size": (1, 2**31 - 1),
    "micro_batch_size": (1, 2**31 - 1),
    "threads": (1, 4096),
    "threads_batch": (1, 4096),
    "gpu_layers": (-1, 65536),
    "cpu_moe_layers": (0, 65536),
    "main_gpu": (0, 1024),
    "rope_freq_base": (0, 1e12),
    "rope_freq_scale": (0, 1e6),
    "rope_scale": (0, 1e6),
    "draft_tokens": (1, 1024),
    "reasoning_budget": (-1, 2**31 - 1),
    "tensor_parallel_size": (1, 1024),
    "pipeline_parallel_size": (1, 1024),
    "gpu_memory_utilization": (0.01, 1.0),
    "max_batched_tokens": (1, 2**31 - 1),
    "cpu_offload_gb": (0, 65536),
    "seed": (-1, 2**63 - 1),
}
_WORDS = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}


def options_from(values: Mapping[str, Any]) -> Options:
    """Typed and bounded; raises BadInput that names the option. A None leaves one unset."""
    read: dict[str, Any] = {}
    for given, value in values.items():
        name = option_name(given)
        if name in read:
            raise BadInput(f"{given} and another name of {name} are both given", hint="keep one")
        if value is not None:
            read[name] = _bounded(name, _typed(name, _TYPES[name], value))
    return Options(**read)


def options_json(options: Options) -> dict[str, Any]:
    """What somebody has set, as plain values."""
    return {name: _plain(getattr(options, name)) for name in options.set_fields()}


def option_name(given: str) -> str:
    """The option that a name means, also with dashes; raises BadInput with the nearest."""
    name = known_option(given)
    if name is not None:
        return name
    near = near_hint(_plain_name(given), [*_TYPES, *ALIASES], "options")
    raise BadInput(f"{given!r} is not an option", hint=near)


def known_option(given: str) -> str | None:
    """The same; None for what is no option, without a look for the nearest, which is slow."""
    plain = _plain_name(given)
    name = ALIASES.get(plain, plain)
    return name if name in _TYPES else None


def _plain_name(given: str) -> str:
    return given.strip().lstrip("-").replace("-", "_").lower()


def option_names() -> tuple[str, ...]:
    return tuple(one.name for one in fields(Options))


def _typed(name: str, kind: Any, value: Any) -> Any:  # noqa: ANN401 - a type, and any value
    if get_origin(kind) is UnionType:
        (kind,) = (part for part in get_args(kind) if part is not NoneType)
    origin = get_origin(kind)
    if origin is tuple:
        return _many(name, get_args(kind)[0], value)
    if origin is Mapping or origin is not None:
        return _mapping(name, value)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return _word(name, kind, value)
    return _single(name, kind, value)


def _single(name: str, kind: type, value: Any) -> Any:  # noqa: ANN401
    if kind is bool:
        found = _WORDS.get(value.lower()) if isinstance(value, str) else value
        if isinstance(found, bool):
            return found
        raise _bad(name, value, "on or off")
    if kind is str:
        if isinstance(value, str) and value and is_argument(value):
            return value
        raise _bad(name, value, "a text")
    if isinstance(value, bool):
        raise _bad(name, value, "a number")
    try:
        number = kind(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    is_whole = not isinstance(value, float) or number == value
    if number is None or not is_whole or (isinstance(number, float) and not isfinite(number)):
        raise _bad(name, value, "a whole number" if kind is int else "a number")
    return number


def _many(name: str, kind: type, value: Any) -> tuple[Any, ...]:  # noqa: ANN401
    if isinstance(value, str):
        parts: list[Any] = [part.strip() for part in value.split(",") if part.strip()]
    elif isinstance(value, list | tuple):
        parts = [str(part) if kind is str and isinstance(part, int) else part for part in value]
    else:
        parts = [str(value)]
    return tuple(_single(name, kind, part) for part in parts)


def _word(name: str, kind: type[StrEnum], value: Any) -> StrEnum:  # noqa: ANN401
    said = _WORDS.get(value.lower()) if isinstance(value, str) and kind is Switch else value
    if isinstance(said, bool):
        value = "on" if said else "off"
    try:
        return kind(str(value).lower())
    except ValueError:
        raise _bad(name, value, f"one of {', '.join(kind)}") from None


def _mapping(name: str, value: Any) -> Mapping[str, Any]:  # noqa: ANN401
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise BadInput(
                f"{name} is no JSON: {error}", hint=f"""such as --{name} '{{"a": 1}}'"""
            ) from error
    if not isinstance(value, Mapping):
        raise _bad(name, value, "a JSON object")
    try:
        is_plain = is_argument(json.dumps(value, allow_nan=False, ensure_ascii=False))
    except (TypeError, ValueError, RecursionError):
        is_plain = False
    if not is_plain:
        raise BadInput(
            f"{name} holds what no JSON can say, or is longer than an argument can be",
            hint=f"{name}: finite numbers and plain texts, {LONGEST} bytes at most",
        )
    return dict(value)


def _bounded(name: str, value: Any) -> Any:  # noqa: ANN401
    if name in _BOUNDS:
        low, high = _BOUNDS[name]
        if not low <= value <= high:
            raise _bad(name, value, f"from {_digits(low)} to {_digits(high)}")
    return value


def _digits(bound: float) -> str:
    """As a person would type it: no 2.14748e+09."""
    return f"{bound:.0f}" if bound == int(bound) else f"{bound:g}"


def _bad(name: str, value: object, wanted: str) -> BadInput:
    return BadInput(f"{name} is {value!r}, which is not {wanted}", hint=f"{name}: {wanted}")


def _plain(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value

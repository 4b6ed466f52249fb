"""Which types of a KV cache an engine has: as its captured help says, or as it says itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path, PurePosixPath

from runner.engines.base import Engine, Plan, UnixEndpoint
from runner.engines.description import Origin
from runner.engines.flag_help import HELP_FILE, help_flags
from runner.engines.option_values import options_from
from runner.errors import BadInput
from runner.names import near_hint

OPTIONS = ("cache_type_k", "cache_type_v", "kv_cache_dtype")

_IS_TYPE = re.compile(r"cache-d?type|draft-type")
_CHOICES = r"(?<![\w-]){flag} \{{([^}}]+)\}}"
"""As Python's argparse writes them."""
_ALLOWED = (
    r"^(?! )[^\n]*(?<![\w-]){flag}(?![\w-])[^\n]*\n(?: [^\n]*\n)*? +allowed values: ([^\n(]+)"
)
"""As llama-server writes them, in the lines below the flag."""
_PLACE = PurePosixPath("/model")


def wrong_cache_type(
    engine: Engine, values: Mapping[str, str], flags: Sequence[str]
) -> BadInput | None:
    """Why the engine does not start with these: `values` by option, and the flags that it is
    given. None where nobody here can tell, as for an engine that others wrote."""
    about = engine.description
    if about.origin is not Origin.BUILT_IN or about.file is None:
        return None
    known, name = _known(about.file.with_name(HELP_FILE)), about.name
    for option, value in values.items():
        flag = f"--{option.replace('_', '-')}"
        types = known.get(flag)
        error = _unknown(option, value, types, name) if types else _refusal(engine, option, value)
        if error is not None:
            return error
    given = ((flag, value) for flag, value in _with_values(flags) if flag in known)
    errors = (_unknown(flag, value, known[flag], name) for flag, value in given)
    return next((error for error in errors if error is not None), None)


def cache_types(text: str) -> Mapping[str, tuple[str, ...]]:
    """Out of a captured help: every spelling of every flag that takes one → the types."""
    found: dict[str, tuple[str, ...]] = {}
    for flag in help_flags(text):
        name = next((name for name in flag.names if _IS_TYPE.search(name)), "")
        if name and (types := _types(text, name)):
            found |= dict.fromkeys(flag.names, types)
    return found


def _types(text: str, flag: str) -> tuple[str, ...]:
    for form in (_CHOICES, _ALLOWED):
        if told := re.search(form.format(flag=re.escape(flag)), text, re.M):
            return tuple(re.findall(r"[\w.-]+", told[1]))
    return ()


@lru_cache(maxsize=8)
def _known(file: Path) -> Mapping[str, tuple[str, ...]]:
    try:
        return cache_types(file.read_text(encoding="utf-8"))
    except OSError:
        return {}


def _unknown(name: str, value: str, types: Sequence[str], engine: str) -> BadInput | None:
    if value in types:
        return None
    return BadInput(
        f"{name} is {value!r}, which {engine} has not", hint=near_hint(value, types, "one of")
    )


def _with_values(flags: Sequence[str]) -> Iterator[tuple[str, str]]:
    for flag, value in pairwise((*flags, "")):
        name, equals, joined = flag.partition("=")
        yield name, joined if equals else value


def _refusal(engine: Engine, option: str, value: str) -> BadInput | None:
    """What the engine itself says of a plan with nothing but this."""
    plan = Plan(
        model_file=_PLACE / "weights",
        model_folder=_PLACE,
        listen=UnixEndpoint("/run/engine.sock"),
        context_size=1,
        names=("model",),
        options=options_from({option: value}),
    )
    try:
        engine.command(plan)
    except BadInput as error:
        return error if error.message.startswith(option) else None
    return None

"""llama-server's flags on the parameters of the embedded llama.cpp, which has no command line.

Most flags are one field each, whose present value says what kind of value it takes; the others
have a function in `native_compute` or `native_chat`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING

from runner.engines.flag_help import HelpFlag, from_help, help_flags
from runner.engines.flag_names import truth
from runner.engines.flags import FlagRules, Takes, parsed
from runner.engines.llamacpp_fields import FIELDS
from runner.engines.llamacpp_flags import GONE
from runner.engines.native_chat import CHAT, SAMPLERS
from runner.engines.native_compute import COMPUTE
from runner.errors import BadInput

if TYPE_CHECKING:
    from xllamacpp import CommonParams

_NOT_OFFERED = "the embedded llama.cpp does not offer it; the container does"
_ENDS = "it would end at once instead of serving"
_LOG = "the embedded llama.cpp has one form of log alone"
_DOWNLOADS = "the embedded llama.cpp downloads nothing"

REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        (
            *("--device", "--override-kv", "--rpc", "--spm-infill", "--sampler-seq"),
            *("--control-vector", "--control-vector-scaled", "--control-vector-layer-range"),
            *("--top-nsigma", "--dry-sequence-breaker", "--logit-bias", "--agent"),
            *("--ui-config-file", "--api-key-file"),
        ),
        _NOT_OFFERED,
    ),
    "--defrag-thold": "llama.cpp no longer has anything to do for it",
    **dict.fromkeys(
        ("--help", "--version", "--cache-list", "--completion-bash", "--list-devices"), _ENDS
    ),
    **dict.fromkeys(
        (
            *("--log-disable", "--log-file", "--log-jsonl", "--log-colors"),
            *("--log-prefix", "--log-timestamps"),
        ),
        _LOG,
    ),
    **dict.fromkeys(
        (
            *("--embd-gemma-default", "--gpt-oss-20b-default", "--gpt-oss-120b-default"),
            *("--fim-qwen-1.5b-default", "--fim-qwen-3b-default", "--fim-qwen-7b-default"),
            *("--fim-qwen-7b-spec", "--fim-qwen-14b-spec", "--fim-qwen-30b-default"),
            *("--vision-gemma-4b-default", "--vision-gemma-12b-default"),
        ),
        _DOWNLOADS,
    ),
}
"""What llama-server takes and the embedded llama.cpp does not → why."""

_SETTERS = {**COMPUTE, **CHAT}
_FIELD_OF = {flag: name for name, flag in FIELDS.items()}


def apply(arguments: Sequence[str], parameters: CommonParams, help_text: str) -> None:
    """Sets what the arguments say, as llama-server would; raises BadInput naming the flag."""
    groups = {name: flag for flag in help_flags(help_text) for name in flag.names}
    rules = FlagRules(known=from_help(help_text), gone=GONE, joins=False)
    for name, values in parsed(arguments, rules):
        _apply_one(name, groups[name], values, parameters)
    # llama-server's own parser ends with this.
    keywords = dict(parameters.default_template_kwargs)
    parameters.default_template_kwargs = {"preserve_reasoning": "true", **keywords}


def handled_by(flag: HelpFlag) -> str:
    """The spelling of a flag that is known here, or ""."""
    return next((name for name in flag.names if name in _SETTERS or name in _FIELD_OF), "")


def refused_for(flag: HelpFlag) -> str:
    """Why the embedded llama.cpp does not take a flag; "" where it does."""
    return next((REFUSED[name] for name in flag.names if name in REFUSED), "")


def switches_off(name: str, flag: HelpFlag) -> bool:
    """Whether a spelling is one of the opposite: --no-warmup, -nocb, -no-kvu."""
    has_opposite = any(other.startswith("--no-") for other in flag.names)
    is_opposite = all(other.startswith("--no-") for other in flag.names if other.startswith("--"))
    return has_opposite and not is_opposite and name.startswith(("--no-", "-n"))


def _apply_one(
    name: str, flag: HelpFlag, values: tuple[str, ...], parameters: CommonParams
) -> None:
    reason = refused_for(flag)
    if reason:
        raise BadInput(f"{name} can't be used: {reason}", hint="take it out")
    known = handled_by(flag)
    if not known:
        raise BadInput(f"{name} can't be used: the embedded llama.cpp does not know it")
    if flag.takes is Takes.NOTHING:
        values = ("false" if switches_off(name, flag) else "true",)
    try:
        if known in _SETTERS:
            _SETTERS[known](parameters, values)
        else:
            _set_field(parameters, known, flag, values[0])
        _note_sampler(parameters, known)
    except (BadInput, ValueError, OverflowError, TypeError, KeyError, OSError) as error:
        raise BadInput(f"{name} does not take {' '.join(values)!r}: {error}") from error


def _set_field(parameters: CommonParams, known: str, flag: HelpFlag, value: str) -> None:
    owner, _, name = _FIELD_OF[known].rpartition(".")
    holder = parameters
    for part in filter(None, owner.split(".")):
        holder = getattr(holder, part)
    if flag.takes is Takes.NOTHING and switches_off(known, flag):
        value = "false" if value == "true" else "true"  # a field that is named no_…
    setattr(holder, name, _converted(getattr(holder, name), value))


def _converted(present: object, value: str) -> object:
    """The value as the kind that stands there now."""
    for kind, convert in _KINDS:
        if isinstance(present, kind):
            return convert(value)
    if isinstance(present, IntEnum):
        return _enumerated(type(present), value)
    return int(value) if isinstance(present, int) else value


def _parts(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]


_KINDS: tuple[tuple[type, Callable[[str], object]], ...] = (
    (bool, lambda value: truth("it", value)),
    (float, float),
    (list, _parts),
    (set, lambda value: set(_parts(value))),
)


def _enumerated(kind: type[IntEnum], value: str) -> IntEnum:
    """llama.cpp's constants are named for the words: `yarn` is LLAMA_ROPE_SCALING_TYPE_YARN."""
    if value.lstrip("-").isdigit():
        return kind(int(value))
    name = f"{kind.__name__}_{value}".upper().replace("-", "_").replace("+", "_")
    if name not in kind.__members__:
        raise ValueError("no such word")
    return kind[name]


def _note_sampler(parameters: CommonParams, known: str) -> None:
    """A model's own recommendation does not replace what somebody has set."""
    if known in SAMPLERS:
        from xllamacpp import common_params_sampling_config as bits

        bit = bits[f"COMMON_PARAMS_SAMPLING_CONFIG_{SAMPLERS[known]}"]
        parameters.sampling.user_sampling_config |= int(bit)

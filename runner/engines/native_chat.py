"""Flags on what the embedded llama.cpp makes of requests, where they are more than one field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from runner.engines.flag_names import truth
from runner.engines.native_compute import Setter

if TYPE_CHECKING:
    from xllamacpp import CommonParams

SAMPLERS: Mapping[str, str] = {
    "--samplers": "SAMPLERS",
    "--temp": "TEMP",
    "--top-k": "TOP_K",
    "--top-p": "TOP_P",
    "--min-p": "MIN_P",
    "--xtc-probability": "XTC_PROBABILITY",
    "--xtc-threshold": "XTC_THRESHOLD",
    "--repeat-last-n": "PENALTY_LAST_N",
    "--repeat-penalty": "PENALTY_REPEAT",
    "--mirostat": "MIROSTAT",
    "--mirostat-ent": "MIROSTAT_TAU",
    "--mirostat-lr": "MIROSTAT_ETA",
}
"""Flag → llama.cpp's word for "somebody has set this"."""

_AUTO = frozenset({"auto", "-1"})
_MAX_INT32 = 2**31 - 1
_MAX_UINT32 = 2**32 - 1


def _set_grammar(parameters: CommonParams, kind: str, text: str) -> None:
    from xllamacpp import CommonGrammar, common_grammar_type

    grammar_type = common_grammar_type[f"COMMON_GRAMMAR_TYPE_{kind}"]
    parameters.sampling.grammar = CommonGrammar(grammar_type, text)


def _set_schema(parameters: CommonParams, text: str) -> None:
    from xllamacpp import json_schema_to_grammar

    _set_grammar(parameters, "OUTPUT_FORMAT", json_schema_to_grammar(json.loads(text)))


def _add_keywords(parameters: CommonParams, **keywords: object) -> None:
    """What a chat template is given, each as JSON."""
    written = {name: json.dumps(value) for name, value in keywords.items()}
    parameters.default_template_kwargs = {**parameters.default_template_kwargs, **written}


def _reasoning(parameters: CommonParams, values: tuple[str, ...]) -> None:
    if values[0] in _AUTO:
        parameters.enable_reasoning = -1
        return
    is_on = truth("it", values[0])
    parameters.enable_reasoning = int(is_on)
    _add_keywords(parameters, enable_thinking=is_on)


def _reasoning_budget(parameters: CommonParams, values: tuple[str, ...]) -> None:
    if int(values[0]) < -1:
        raise ValueError("-1 or more")
    parameters.sampling.reasoning_budget_tokens = int(values[0])


def _effort(parameters: CommonParams, values: tuple[str, ...]) -> None:
    if values[0] != "default":
        _add_keywords(parameters, reasoning_effort=values[0])


def _preserve(parameters: CommonParams, values: tuple[str, ...]) -> None:
    _add_keywords(parameters, preserve_reasoning=truth("it", values[0]))
    parameters.preserve_reasoning_specified = True


def _no_perf(parameters: CommonParams, values: tuple[str, ...]) -> None:
    parameters.no_perf = parameters.sampling.no_perf = not truth("it", values[0])


def _rerank(parameters: CommonParams, _: tuple[str, ...]) -> None:
    from xllamacpp import llama_pooling_type

    parameters.embedding = True
    parameters.pooling_type = llama_pooling_type.LLAMA_POOLING_TYPE_RANK


def _timeout(parameters: CommonParams, values: tuple[str, ...]) -> None:
    parameters.timeout_read = parameters.timeout_write = int(values[0])


def _verbose(parameters: CommonParams, _: tuple[str, ...]) -> None:
    parameters.verbosity = _MAX_INT32


def _repeat_last(parameters: CommonParams, values: tuple[str, ...]) -> None:
    count = int(values[0])
    if count < 0:
        raise ValueError("0 or more")
    parameters.sampling.penalty_last_n = count
    parameters.sampling.n_prev = max(parameters.sampling.n_prev, count)


def _seed(parameters: CommonParams, values: tuple[str, ...]) -> None:
    parameters.sampling.seed = int(values[0]) & _MAX_UINT32


def _samplers(parameters: CommonParams, values: tuple[str, ...]) -> None:
    parameters.sampling.samplers = values[0]
    if len(parameters.sampling.samplers.split(";")) != len(values[0].split(";")):
        raise ValueError(f"of these it knows {parameters.sampling.samplers or 'none'}")


def _text(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")


CHAT: Mapping[str, Setter] = {
    "--grammar": lambda to, values: _set_grammar(to, "USER", values[0]),
    "--grammar-file": lambda to, values: _set_grammar(to, "USER", _text(values[0])),
    "--json-schema": lambda to, values: _set_schema(to, values[0]),
    "--json-schema-file": lambda to, values: _set_schema(to, _text(values[0])),
    "--chat-template-file": lambda to, values: setattr(to, "chat_template", _text(values[0])),
    "--chat-template-kwargs": lambda to, values: _add_keywords(to, **json.loads(values[0])),
    "--reasoning": _reasoning,
    "--reasoning-effort": _effort,
    "--reasoning-preserve": _preserve,
    "--reasoning-budget": _reasoning_budget,
    "--perf": _no_perf,
    "--rerank": _rerank,
    "--timeout": _timeout,
    "--verbose": _verbose,
    "--repeat-last-n": _repeat_last,
    "--seed": _seed,
    "--samplers": _samplers,
    "--reverse-prompt": lambda to, values: setattr(to, "antiprompt", [*to.antiprompt, values[0]]),
}
"""A flag's name as the table of fields has it → how it is set."""

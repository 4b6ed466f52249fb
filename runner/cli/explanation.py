"""An explanation as an expert reads it: the choice and the command first, then all the rest."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any

from runner.cli.output import size, tabulated

WIDTH = 80
_GAP = "  "
_CONTINUED = " \\"
_MARKS = {True: "*", False: " "}
_INSTALLED = "installed"
_FITS = "nothing, it fits"
_UNSAID = ("", "none")
_HOW = {
    "image": "in a container",
    "environment": "as a native process",
    "wheel": "as a native process",
    "code": "by its plug-in",
}


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    yield from _head(found)
    if found["start"]:
        yield from _start(found["start"])
    if found["command"]:
        yield ""
        yield "By hand:" if found.get("preparation") else "How it starts:"
        for command in (*found.get("preparation", ()), found["command"]):
            yield from command_lines(command)
    yield ""
    yield from _variants(found["variants"])
    yield from _against(found["variants"])
    if found["fallbacks"]:
        yield ""
        yield f"If it does not start: {', '.join(found['fallbacks'])}"


def _head(found: Mapping[str, Any]) -> Iterator[str]:
    model, choice, problem = found["model"], found["choice"], found["problem"]
    traits = (model["format"], model["quantization"], model["architecture"], size(model["size"]))
    yield f"{model['name']}: {', '.join(trait for trait in traits if trait not in _UNSAID)}"
    if choice:
        who = f"{choice['label']} {choice['version']}".rstrip()
        yield from _wrapped(f"Served by {who}, {_HOW[choice['form']]}: {found['reason']}")
    if passed := found.get("passed_over"):
        yield from _wrapped(_in_turn(passed, model["name"]))
    elif standing_in := found.get("standing_in"):
        yield from _wrapped(f"But {standing_in}. {_another_chance(model['name'])}")
    if unused := found["unused_gpu"]:
        why = f"{unused['label']}: {unused['found']}; {unused['hint']}"
        yield from _wrapped(f"The GPU is not used. {why}")
    if problem:
        yield from _wrapped(f"{'But' if choice else 'Not served'}: {problem['message']}")
        if problem["hint"]:
            yield from _wrapped(f"Next: {problem['hint']}")


def _in_turn(passed: Mapping[str, Any], model: str) -> str:
    until = time.strftime("%H:%M", time.localtime(passed["until"]))
    return (
        f"But {passed['by']} answers until {until}: {passed['label']} {passed['why']}"
        f" ({passed['reason']}). {_another_chance(model)}"
    )


def _another_chance(model: str) -> str:
    return f"Next: `runner unload {model}` gives it another chance now"


def _start(start: Mapping[str, Any]) -> Iterator[str]:
    """What was decided beside the engine, and what became of what the user set."""
    cache = f", {size(start['kv_bytes'])} of KV cache" if start["kv_bytes"] else ""
    gpus = ", ".join(_gpu(gpu) for gpu in start["gpus"]) or "none"
    options = " ".join(f"{name}={_shown(value)}" for name, value in start["options"].items())
    facts = [
        ("mode", start["mode"]),
        ("context", f"{start['context_size']} tokens{cache}"),
        ("GPUs", gpus),
        ("options", options),
        ("flags", shlex.join(start["flags"])),
        *(("variable", fate["text"]) for fate in start["fates"]),
        *(("note", message) for message in start["messages"]),
    ]
    for name, value in facts:
        if value:
            yield from _wrapped(value, first=f"  {name:<9} ", rest=" " * 12)


def _shown(value: Any) -> str:  # noqa: ANN401
    return value if isinstance(value, str) else json.dumps(value)


def _gpu(gpu: Mapping[str, Any]) -> str:
    memory = f" ({size(gpu['memory'])})" if gpu["memory"] else ""
    return f"{gpu['index']}: {gpu['name'] or gpu['vendor']}{memory}"


def command_lines(command: Sequence[str], width: int = WIDTH) -> Iterator[str]:
    """To be pasted: quoted, broken before flags, each with its values on one line if it fits."""
    line = ""
    for group in _groups(command):
        if line and len(line) + len(group) + 1 > width - len(_CONTINUED):
            yield line + _CONTINUED
            line = _GAP + group
        else:
            line = f"{line} {group}" if line else group
    yield line


def _groups(command: Sequence[str]) -> Iterator[str]:
    """A flag and what follows it until the next; words before the first flag stand alone."""
    group: list[str] = []
    for word in command:
        begins = word.startswith("-") or not (group and group[0].startswith("-"))
        if begins and group:
            yield shlex.join(group)
            group = []
        group.append(word)
    if group:
        yield shlex.join(group)


def _variants(variants: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    able = sum(one["can_serve"] for one in variants)
    marked = "; * is the choice" if any(one["chosen"] for one in variants) else ""
    yield f"{able} of {len(variants)} variants can serve it{marked}:"
    yield ""
    rows = [
        (
            f"{_MARKS[one['chosen']]} {one['label']}",
            one["version"] or "-",
            "installed" if one["installed"] else "available",
            ", ".join(_codes(one)) or _FITS,
        )
        for one in variants
    ]
    yield from tabulated(("  VARIANT", "VERSION", "HERE", "AGAINST IT"), rows, WIDTH)


def _codes(variant: Mapping[str, Any]) -> list[str]:
    """What speaks against it, each kind once."""
    return list(dict.fromkeys(one["code"] for one in variant["verdicts"] if not one["ok"]))


def _against(variants: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Every verdict against a variant; those that several share are told once."""
    told: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for variant in variants:
        for one in variant["verdicts"]:
            if not one["ok"]:
                hints = told.setdefault((one["code"], one["found"], one["required"]), {})
                hints.setdefault(one["hint"], []).append(variant["label"])
    # What an installation would mend comes last.
    for reason in sorted(told, key=lambda reason: reason[0] == _INSTALLED):
        code, found, required = reason
        yield ""
        yield from _wrapped(f"{code}: {found}; required: {required}")
        yield from _steps(told[reason])


def _steps(hints: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Whom a reason is against, and the next step; a line each where the steps differ."""
    for hint, labels in hints.items():
        names = ", ".join(dict.fromkeys(labels))
        if len(hints) > 1:
            yield from _wrapped(f"{names}: {hint}", first="  ", rest=" " * 7)
            continue
        yield from _wrapped(names, first="  for  ", rest=" " * 7)
        if hint:
            yield from _wrapped(hint, first="  next ", rest=" " * 7)


def _wrapped(text: str, first: str = "", rest: str = "  ") -> list[str]:
    """Words stay whole: commands and names are there to be copied."""
    return wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )

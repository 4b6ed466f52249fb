"""`runner engines`: the engines that there are, and which of them go first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from runner.cli.options import AsJson

app = typer.Typer(rich_markup_mode=None)

_HEADER = ("ENGINE", "VARIANT", "FOR", "VERSION", "HERE", "AS", "FORMATS", "FROM")
_SPARE = ("FROM", "AS", "FORMATS")
_FORMS = {"image": "container", "environment": "process", "wheel": "process", "code": "plug-in"}
_FORMAT, _VARIANT, _FALLBACK = "format", "variant", "fallback"

Reset = Annotated[bool, typer.Option("--reset", help="Take the choice back.")]


@app.callback(invoke_without_command=True)
def engines(context: typer.Context, as_json: AsJson = False) -> None:
    """List the engines, or choose which go first.

    * marks an engine's default variant: its own, or yours.
    """
    if context.invoked_subcommand is not None:
        return
    from runner.cli.background import running_client
    from runner.cli.output import show_json

    found = running_client().get("/runner/v1/engines")
    if as_json:
        show_json(found)
    else:
        _print(found)


@app.command("default-format")
def default_format(
    model_format: Annotated[
        str, typer.Argument(metavar="FORMAT", help="Such as gguf or safetensors.")
    ],
    engine: Annotated[
        str, typer.Argument(metavar="[ENGINE]", help="Without one: show the choice.")
    ] = "",
    reset: Reset = False,
    as_json: AsJson = False,
) -> None:
    """Choose the engine for a model format.

    \b
    Example:
      runner engines default-format gguf llama.cpp
    """
    _choose(_FORMAT, model_format, engine, reset=reset, as_json=as_json)


@app.command("default")
def default(
    engine: Annotated[str, typer.Argument(metavar="ENGINE")],
    variant: Annotated[
        str, typer.Argument(metavar="[VARIANT]", help="Without one: show the choice.")
    ] = "",
    reset: Reset = False,
    as_json: AsJson = False,
) -> None:
    """Choose an engine's variant that goes first.

    \b
    Example:
      runner engines default llama.cpp cuda12
    """
    _choose(_VARIANT, engine, variant, reset=reset, as_json=as_json)


@app.command("fallback")
def fallback(
    subject: Annotated[str, typer.Argument(metavar="FORMAT|MODEL")],
    engines: Annotated[
        str,
        typer.Argument(metavar="[ENGINE,...]", help="In their order; without any: show them."),
    ] = "",
    reset: Reset = False,
    as_json: AsJson = False,
) -> None:
    """Choose the engines that take over from one that fails.

    They do so when the first one does not start, or keeps ending.

    \b
    Example:
      runner engines fallback safetensors vllm,transformers
    """
    _choose(_FALLBACK, subject, engines, reset=reset, as_json=as_json)


def _choose(kind: str, subject: str, value: str, *, reset: bool, as_json: bool) -> None:
    """Raises BadInput where a choice is both made and taken back."""
    from runner.cli.background import running_client
    from runner.cli.output import show_json
    from runner.errors import BadInput

    if reset and value:
        raise BadInput(f"--reset and {value!r} are both given", hint="keep one")
    client = running_client()
    if reset or value:
        body = {"kind": kind, "subject": subject, "value": value}
        done = client.post("/runner/v1/engines/choices", body)
    else:
        done = client.get(f"/runner/v1/engines/choices?{_query(kind, subject)}")
    if as_json:
        show_json(done)
    else:
        print(f"{done['subject']}: {done['value'] or 'no choice, the usual order holds'}")


def _query(kind: str, subject: str) -> str:
    from urllib.parse import urlencode

    return urlencode({"kind": kind, "subject": subject})


def _print(found: Mapping[str, Any]) -> None:
    from runner.cli.output import note, table

    chosen = found["choices"]
    rows = [row for engine in found["engines"] for row in _rows(engine, chosen[_VARIANT])]
    table(_HEADER, rows, spare=_SPARE)
    choices = [*_choices(chosen, found["preference"])]
    print("\n".join(["", *choices, ""]) if choices else "", end="")
    for problem in found["problems"]:
        note(_left_out(problem["message"], problem["hint"]))


def _left_out(message: str, hint: str) -> str:
    """Of a file with several mistakes, one line for each, which an editor can jump to."""
    lines = message.splitlines()
    if len(lines) == 1:
        return f"runner: left out: {message}" + (f". Next: {hint}" if hint else "")
    return "\n".join(["runner: left out:", *lines, *([f"Next: {hint}"] if hint else [])])


def _rows(engine: Mapping[str, Any], chosen: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    default = chosen.get(engine["backend"]) or engine["default_variant"]
    for one in engine["variants"]:
        yield (
            engine["backend"],
            one["variant"] + ("*" if one["variant"] == default else ""),
            one["accelerator"],
            one["version"] or "-",
            "installed" if one["installed"] else "available",
            _FORMS.get(one["form"], one["form"]),
            ", ".join(engine["formats"]),
            engine["origin"],
        )


def _choices(chosen: Mapping[str, Mapping[str, str]], preference: Sequence[str]) -> Iterator[str]:
    """None where nothing was chosen."""
    for name, engine in chosen[_FORMAT].items():
        yield f"your engine for {name}: {engine}"
    for name, engines in chosen[_FALLBACK].items():
        yield f"fallback for {name}: {engines}"
    if preference:
        yield f"your order of preference: {', '.join(preference)}"

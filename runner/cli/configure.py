"""`runner configure`: what a model is started with, kept until it is changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runner.cli.option_flags import KEPT
from runner.cli.options import AsJson

if TYPE_CHECKING:
    from runner.registry.reference import Defaults

_GAP = "  "


def configure(
    context: typer.Context,
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="By name or ID; it need not be here yet.")
    ],
    flags: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- FLAGS...]", help="The engine's own flags, in place of others."),
    ] = None,
    *,
    backend: Annotated[
        str, typer.Option("--backend", metavar="ENGINE", help="Only for this engine.")
    ] = "",
    parameters: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any option, or sampling.top_k, …"),
    ] = None,
    environment: Annotated[
        list[str] | None,
        typer.Option("--env", metavar="NAME=VALUE", help="An environment variable."),
    ] = None,
    runtime_flags: Annotated[
        str, typer.Option("--runtime-flags", metavar="TEXT", help="Flags in one text.")
    ] = "",
    unset: Annotated[
        list[str] | None,
        typer.Option("--unset", metavar="NAME", help="Take one out again; `flags`: all flags."),
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Forget all that was set.")] = False,
    as_json: AsJson = False,
) -> None:
    """Set what a model is started with.

    What is not named stays as it was; `runner configure show` shows it. A model called
    `show` is configured as ai/show.

    \b
    Examples:
      runner configure --context-size 8192 ai/smollm2
      runner configure ai/smollm2 --set sampling.top_k=40 -- --no-warmup
      runner configure myorg/m --backend vllm --hf-overrides '{"rope_theta": 1e6}'
      runner configure ai/smollm2 --unset context_size --env OMP_NUM_THREADS=4
    """
    from runner.cli.background import running_client
    from runner.cli.output import show_json

    body = {
        "model": _name(model),
        "backend": backend,
        "values": _values(context.meta.get(KEPT, {}), parameters or ()),
        "flags": flags or None,
        "raw_flags": runtime_flags,
        "environment": dict(_pair(text, "--env") for text in environment or ()),
        "unset": unset or [],
        "reset": reset,
    }
    done = running_client().post("/runner/v1/configure", body)
    if as_json:
        show_json(done)
    else:
        print("\n".join(_told(done, model)))


def show(
    model: Annotated[
        str, typer.Argument(metavar="[MODEL]", help="By name or ID; without one: all models.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Show what is configured for a model, or for all."""
    from runner.cli.background import this_home
    from runner.cli.models import this_store
    from runner.cli.output import show_json
    from runner.engines.configured_models import rows, subject
    from runner.state import State

    store = this_store()
    names = subject(store, model).names if model else None
    found = rows(State(this_home().state_file).configurations(), names)
    if as_json:
        show_json(found)
    elif found:
        _print_rows(found, store.defaults)
    else:
        print(f"nothing is configured{f' for {model}' if model else ''}")


def _name(model: str) -> str:
    """A file or folder of this machine is packaged, as `run` does it; the name it has then."""
    from runner.cli.background import this_home
    from runner.cli.local_model import packaged
    from runner.cli.models import this_store
    from runner.models.naming import LocalPath, read_name

    store = this_store()
    name = read_name(model, store.defaults)
    return packaged(store, this_home().root, name.path) if isinstance(name, LocalPath) else model


def _values(options: Mapping[str, Any], parameters: Sequence[str]) -> dict[str, Any]:
    """Of a chat template the text, which this user may read and the daemon may not. Raises
    BadInput for what is given in two ways."""
    from pathlib import Path

    from runner.engines.templates import is_template, read_template
    from runner.errors import BadInput

    values = dict(options)
    for text in parameters:
        name, value = _pair(text, "--set")
        if name in values:
            raise BadInput(f"{name} is given twice", hint="keep one")
        values[name] = value
    files = {name: Path(value).expanduser() for name, value in values.items() if is_template(name)}
    return values | {name: read_template(file) for name, file in files.items()}


def _pair(text: str, option: str) -> tuple[str, str]:
    from runner.errors import BadInput

    name, equals, value = text.partition("=")
    if not name or not equals:
        raise BadInput(f"{option} {text!r} has no value", hint=f"write {option} NAME=VALUE")
    return name, value


def _told(done: Mapping[str, Any], model: str) -> Iterator[str]:
    if not done["in_store"] and any(list(_lines(kept)) for kept in done["configured"]):
        yield f"{model} is not in the store yet: this holds once it is pulled"
    for kept in done["configured"]:
        lines = list(_lines(kept))
        whose = f" for {kept['backend']}" if kept["backend"] else ""
        yield f"{model} is configured{whose}:" if lines else f"{model} has nothing set{whose}"
        yield from aligned(lines)
        yield from kept["messages"]
        yield from _effects(kept["effects"])


def _lines(kept: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is set, name by name."""
    import json
    import shlex

    for name, value in {**kept["options"], **kept["parameters"]}.items():
        yield name, value if isinstance(value, str) else json.dumps(value)
    if kept["flags"]:
        yield "flags", shlex.join(kept["flags"])
    for name, value in kept["environment"].items():
        yield "environment", f"{name}={value}"


def aligned(lines: Sequence[tuple[str, str]]) -> list[str]:
    """Names and values in two columns, set in."""
    width = max((len(name) for name, _ in lines), default=0)
    return [f"{_GAP}{name.ljust(width)}{_GAP}{value}" for name, value in lines]


def _effects(effects: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What each engine makes of it, where there is something to say."""
    for effect in effects:
        engine = effect["backend"]
        yield from (f"{engine}: {message}" for message in effect["messages"])
        yield from (f"{engine}: {fate['text']}" for fate in effect["environment"])
        if effect["flags"] and effect["serves"]:
            yield f"{engine}: is given {' '.join(effect['flags'])}"
        if effect["problem"]:
            hint = f". Next: {effect['hint']}" if effect["hint"] else ""
            yield f"{engine}: can't start so: {effect['problem']}{hint}"
        elif effect["lacks"]:
            yield f"{engine}: is not chosen, it has no {', '.join(effect['lacks'])}"


def _print_rows(found: Sequence[Mapping[str, Any]], defaults: Defaults) -> None:
    """Names are spelled as `ls` prints them."""
    from runner.cli.output import short_id, table
    from runner.registry.digest import is_digest
    from runner.registry.reference import short_of

    def spelled(name: str) -> str:
        return short_id(name) if is_digest(name) else short_of(name, defaults)

    rows = [
        (spelled(row["model"]), row["backend"] or "any", name, value)
        for row in found
        for name, value in (_lines(row) if "options" in row else [("-", row["problem"])])
    ]
    table(("MODEL", "BACKEND", "SETTING", "VALUE"), rows)

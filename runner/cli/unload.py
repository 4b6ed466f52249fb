"""`runner unload`: takes models out of memory."""

from __future__ import annotations

from typing import Annotated

import typer

from runner.cli.options import AsJson


def unload(
    models: Annotated[list[str] | None, typer.Argument(help="Models to unload.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All models.")] = False,
    backend: Annotated[str, typer.Option("--backend", help="Only this engine's.")] = "",
    as_json: AsJson = False,
) -> None:
    """Unload models, once their requests are done."""
    from runner.cli.background import client_with_engines, this_home
    from runner.cli.output import show_json
    from runner.errors import BadInput

    if not (models or everything or backend):
        raise BadInput("no model is named", hint="name one, or say --all")
    body = {"all": everything, "backend": backend, "models": models or []}
    client = client_with_engines(this_home())
    count = client.post("/engines/unload", body)["unloaded_runners"] if client else 0
    if as_json:
        show_json({"unloaded_runners": count})
    elif count:
        print(f"Unloaded {count} model{'' if count == 1 else 's'}.")
    else:
        print("No models are running.")

"""`runner rm`: removes models from the local store."""

from __future__ import annotations

from typing import Annotated

import typer

from runner.cli.options import AsJson, Force


def rm(
    models: Annotated[list[str], typer.Argument(help="Models to remove.")],
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Remove models from the local store."""
    from runner.cli.background import running_client
    from runner.cli.models import model_path
    from runner.cli.output import show_json

    client = running_client()
    removed: list[dict[str, str]] = []
    for model in models:
        removed += client.delete(f"{model_path(model)}?force={str(force).lower()}")
    if as_json:
        show_json(removed)
        return
    for entry in removed:
        for what, name in entry.items():
            print(f"{what}: {name}")

"""`runner pull`: brings a model from its registry into the local store."""

from __future__ import annotations

from typing import Annotated

import typer

from runner.cli.options import AsJson


def pull(
    model: Annotated[str, typer.Argument(help="Such as ai/smollm2 or localhost:5000/demo:1.")],
    as_json: AsJson = False,
) -> None:
    """Pull a model from a registry."""
    from runner.cli.background import running_client
    from runner.cli.models import pull_model
    from runner.cli.output import note, show_json

    done = pull_model(running_client(), model)
    note(str(done["message"]))
    if as_json:
        show_json({"id": done["id"]})
    else:
        print(done["id"])

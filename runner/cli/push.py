"""`runner push`: sends a model of the local store to its registry."""

from __future__ import annotations

from typing import Annotated

import typer

from runner.cli.options import AsJson


def push(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model in the store, by its registry name.")
    ],
    as_json: AsJson = False,
) -> None:
    """Push a model to the registry that its name says.

    \b
    Example:
      runner tag ai/smollm2 localhost:5000/smollm2:mine
      runner push localhost:5000/smollm2:mine
    """
    from runner.cli.models import push_model
    from runner.cli.output import show_json

    digest = push_model(model)
    if as_json:
        show_json({"digest": digest})
    else:
        print(digest)

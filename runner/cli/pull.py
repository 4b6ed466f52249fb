"""`runner pull`: brings a model into the local store."""

from __future__ import annotations

from typing import Annotated

import typer

from runner.cli.options import AsJson


def pull(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Its name at a registry or a model hub.")
    ],
    as_json: AsJson = False,
) -> None:
    """Pull a model from a registry or a model hub.

    What is in the store already is not fetched again; a pull that was
    stopped goes on where it was.

    \b
    Examples:
      runner pull ai/smollm2:360M-Q4_K_M
      runner pull registry.example/team/model@sha256:...
      runner pull hf.co/ORG/REPO:Q4_K_M
      runner pull ms://ORG/REPO
    """
    from runner.cli.background import running_client
    from runner.cli.models import pull_model
    from runner.cli.output import note, show_json

    done = pull_model(running_client(), model)
    note(str(done["message"]))
    if as_json:
        show_json({"id": done["id"]})
    else:
        print(done["id"])

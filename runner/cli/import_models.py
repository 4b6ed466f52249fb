"""`runner import`: models from an archive or a folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from runner.cli.options import AsJson


def import_models(
    source: Annotated[
        str, typer.Argument(metavar="FILE|DIR|-", help="An archive, an OCI layout, or a pipe (-).")
    ],
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", help="Only these of it.")
    ] = None,
    name: Annotated[
        str, typer.Option("--as", metavar="NAME", help="The name that its one model gets.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Take models from an archive or an OCI layout.

    \b
    Examples:
      runner import smollm2.tar
      ssh other runner export ai/smollm2 | runner import -
      runner import ./layout --as myorg/mymodel:1
    """
    from runner.cli.background import this_home
    from runner.cli.models import this_store
    from runner.cli.output import note, short_id, show_json
    from runner.errors import BadInput
    from runner.models.listing import model_json, short_tags
    from runner.store.archive import import_models as read_archive

    if source == "-" and sys.stdin.isatty():
        raise BadInput("no archive comes through the pipe", hint="runner import FILE.tar")
    this_home().prepare()
    store = this_store()
    found = read_archive(
        store,
        sys.stdin.buffer if source == "-" else Path(source).expanduser(),
        names=models or (),
        reference=store.reference(name) if name else None,
    )
    if as_json:
        show_json([model_json(model, store.defaults) for model in found])
        return
    for model in found:
        names = ", ".join(short_tags(model, store.defaults)) or "no name"
        note(f"imported {short_id(model.id)} ({names})")
        print(model.id)

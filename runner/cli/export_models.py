"""`runner export`: models in one tar archive, for machines without a network."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def export_models(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Models in the store, by name or ID.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="The archive; without it, or for -: stdout."
        ),
    ] = None,
) -> None:
    """Write models to a tar archive, for another machine.

    It is an OCI layout, which `crane`, `skopeo` and `oras` read too.

    \b
    Examples:
      runner export ai/smollm2 -o smollm2.tar
      runner export ai/smollm2 | ssh other runner import -
    """
    from runner.cli.models import this_store
    from runner.cli.output import note, size
    from runner.errors import BadInput
    from runner.store.archive import export_models as write_archive

    store = this_store()
    if output is None or str(output) == "-":
        if sys.stdout.isatty():
            raise BadInput(
                "an archive is nothing for a terminal", hint="add -o FILE.tar, or pipe it"
            )
        write_archive(store, models, sys.stdout.buffer)
        return
    write_archive(store, models, output)
    note(f"wrote {output} ({size(output.stat().st_size)})")

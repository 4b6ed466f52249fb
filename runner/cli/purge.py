"""`runner purge`: empties the local store."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from runner.cli.options import AsJson

if TYPE_CHECKING:
    from runner.store.store import ModelStore


def purge(
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Do not ask; unload what is loaded.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove every model from the local store.

    \b
    Example:
      runner purge --force
    """
    from runner.cli.agreement import agree
    from runner.cli.background import client_with_engines, this_home
    from runner.cli.models import show_removal, this_store
    from runner.models.listing import removal_json

    store = this_store()
    if not force and not _agreed(store):
        raise typer.Exit(1)
    client = client_with_engines(this_home())
    if client:
        agree(client, store)
    path = "/models/purge?force=true"
    removed = client.delete(path) if client else removal_json(store.purge())
    show_removal(removed, store.defaults, as_json=as_json)


def _agreed(store: ModelStore) -> bool:
    """Raises BadInput where nobody can be asked."""
    from runner.cli.output import size
    from runner.errors import BadInput
    from runner.store.usage import disk_usage

    usage = disk_usage(store)
    models = usage.models
    if not models:
        return True
    if not sys.stdin.isatty():
        raise BadInput("nobody is there to be asked", hint="runner purge --force")
    amount = size(usage.blobs)  # as `df` counts: what models share, once
    count = f"{len(models)} model{'' if len(models) == 1 else 's'}"
    return typer.confirm(f"Remove {count} ({amount})?", err=True)

"""`runner df`: what models and engines take on the disk."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from runner.cli.options import AsJson

if TYPE_CHECKING:
    from runner.registry.reference import Defaults
    from runner.store.usage import Usage


def df(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also each model: all of it, and its alone.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what models and engines take on the disk.

    \b
    Example:
      runner df -v
    """
    from runner.cli.background import this_home
    from runner.cli.models import this_store
    from runner.cli.output import show_json, size, table
    from runner.state import State
    from runner.store.usage import disk_usage

    store = this_store()
    usage = disk_usage(store)
    engines = sum(install.size for install in State(this_home().state_file).installs())
    if as_json:
        show_json({**asdict(usage), "total": usage.total, "engines": engines})
        return
    table(("TYPE", "SIZE", ""), [(*row[:1], size(row[1]), row[2]) for row in _rows(usage, engines)])
    if verbose and usage.models:
        print()
        _show_models(usage, store.defaults)


def _rows(usage: Usage, engines: int) -> list[tuple[str, int, str]]:
    rows = [("Models", usage.blobs, f"{len(usage.models)} in the store")]
    optional = [
        ("Linked files", usage.linked, "your own, shared by hard links"),
        ("Unpacked files", usage.bundles, "for engines, beside the models"),
        ("Partial downloads", usage.partials, "`runner pull` goes on with them"),
        ("Unused files", usage.orphans, "`runner prune` removes them after a day"),
    ]
    rows += [row for row in optional if row[1]]
    return [*rows, ("Engine images", engines, "`runner status` lists them")]


def _show_models(usage: Usage, defaults: Defaults) -> None:
    from runner.cli.output import short_id, size, table
    from runner.registry.reference import short_of

    table(
        ("MODEL", "ID", "SIZE", "ITS ALONE"),
        [
            (
                short_of(model.tags[0], defaults) if model.tags else "<none>",
                short_id(model.id),
                size(model.size),
                size(model.own + model.bundle),
            )
            for model in usage.models
        ],
    )

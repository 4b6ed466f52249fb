"""`runner prune`: removes what belongs to no model."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from runner.cli.options import AsJson

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.store.leftovers import Pruned
    from runner.store.store import ModelStore


def prune(
    everything: Annotated[
        bool,
        typer.Option("--all", help="Also what is younger than a day, and models without a name."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove files that belong to no model.

    Such as what stopped pulls and removed models left. What a pull is
    writing now stays. A stopped pull whose part is removed starts anew.

    Models stay; with --all those go that have no name any more and are not
    loaded: a name that is pulled or packaged again leaves its old model so.

    \b
    Example:
      runner prune
    """
    from runner.cli.models import this_store
    from runner.cli.output import note, show_json

    store = this_store()
    loaded = _loaded(store) if everything else frozenset()
    pruned = store.prune(everything=everything, keep=loaded)
    if as_json:
        show_json(asdict(pruned))
        return
    print(_removed(pruned))
    for line in _kept(pruned.kept, _parts(store), everything=everything):
        note(line)
    if pruned.unnamed:
        models = f"{pruned.unnamed} model{'' if pruned.unnamed == 1 else 's'} without a name"
        them = "it" if pruned.unnamed == 1 else "them"
        more = "loaded" if everything else f"here: `runner prune --all` removes {them}"
        note(f"{models} {'is' if pruned.unnamed == 1 else 'are'} {more}")


def _loaded(store: ModelStore) -> frozenset[str]:
    """IDs of the models that engines serve. Raises Conflict where the daemon has another store."""
    from runner.cli.agreement import agree
    from runner.cli.background import client_with_engines, this_home

    client = client_with_engines(this_home())
    if not client:
        return frozenset()
    agree(client, store)
    return frozenset(str(instance["model_id"]) for instance in client.get("/engines/ps"))


def _parts(store: ModelStore) -> int:
    """Bytes of the downloads that are there, broken or running."""
    from runner.store.leftovers import partial_files

    return sum(partial.size for partial in partial_files(store.root))


def _kept(count: int, parts: int, *, everything: bool) -> Iterator[str]:
    """What is said of `count` bytes that stay, of which `parts` are downloads."""
    from runner.cli.output import size

    if everything:
        if count:
            yield f"{size(count)} more is wanted by a transfer"
        return
    parts = min(parts, count)
    if parts:
        yield (
            f"{size(parts)} is what a stopped pull has so far: the same pull goes on with it, "
            "`runner prune --all` removes it"
        )
    if count > parts:
        yield (f"{size(count - parts)} more is younger than a day: `runner prune --all` removes it")


def _removed(pruned: Pruned) -> str:
    from runner.cli.output import size

    counts = {
        "model": pruned.models,
        "blob": pruned.blobs,
        "partial download": pruned.partials,
        "manifest": pruned.manifests,
        "bundle": pruned.bundles,
    }
    told = [f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items() if count]
    return f"removed {', '.join(told)}: {size(pruned.freed)} freed" if told else "nothing to remove"

"""Whether the daemon and this command mean the same by a model's name: asked before model work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.errors import Conflict
from runner.models.surroundings import STORE, Surroundings, around_hub, around_logins, around_store
from runner.registry.reference import Source

if TYPE_CHECKING:
    from runner.cli.client import Client
    from runner.store.store import ModelStore


def agree(client: Client, store: ModelStore, source: Source | None = None) -> None:
    """Raises Conflict where the daemon has another store than this command; for a transfer with
    `source` also where it has other logins, or another address of the hub."""
    theirs: Surroundings = client.get("/version").get("surroundings", {})
    _same_store(theirs.get(STORE, "another folder"), around_store(store)[STORE])
    if source is not None:
        _same_source(theirs, _around(source))


def _around(source: Source) -> Surroundings:
    from runner.configuration import load

    return around_logins() if source is Source.REGISTRY else around_hub(source, load().settings)


def _same_store(theirs: str, ours: str) -> None:
    if theirs != ours:
        raise Conflict(
            f"the daemon keeps its models in {theirs}, this command in {ours}",
            hint=f"`runner restart-runner`, or unset {STORE}",
        )


def _same_source(theirs: Surroundings, ours: Surroundings) -> None:
    different = [
        f"{name} is {theirs.get(name) or 'not set'} for the daemon, {own or 'not set'} here"
        for name, own in ours.items()
        if theirs.get(name, "") != own
    ]
    if different:
        raise Conflict(
            " and ".join(different),
            hint="`runner restart-runner`; engines in containers keep running",
        )

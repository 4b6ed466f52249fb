"""`runner ls`: the models in the local store, read straight from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from runner.cli.options import AsJson

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runner.registry.reference import Defaults
    from runner.store.stored import StoredModel

_HEADER = ("MODEL", "FORMAT", "PARAMETERS", "QUANTIZATION", "ARCHITECTURE", "CONTEXT", "ID", "SIZE")
_SPARE = ("ARCHITECTURE", "CONTEXT", "PARAMETERS")
"""What a narrow terminal leaves out."""


def ls(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the models' IDs.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the models in the local store."""
    from runner.cli.models import this_store
    from runner.cli.output import show_json, table
    from runner.models.listing import model_json

    store = this_store()
    models = store.list()
    if as_json:
        show_json([model_json(model, store.defaults) for model in models])
    elif quiet:
        print("\n".join(model.id for model in models), end="\n" if models else "")
    else:
        table(_HEADER, list(_rows(models, store.defaults)), spare=_SPARE)


def _rows(models: Sequence[StoredModel], defaults: Defaults) -> Iterator[tuple[str, ...]]:
    from runner.cli.output import short_id, size
    from runner.models.listing import short_tags

    for model in models:
        config = model.config
        rest = (
            config.format.value,
            config.parameters or "-",
            config.quantization or "-",
            config.architecture or "-",
            str(config.context_size or "-"),
            short_id(model.id),
            size(model.size),
        )
        for tag in short_tags(model, defaults) or ("<none>",):
            yield (tag, *rest)

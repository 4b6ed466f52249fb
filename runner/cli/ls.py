"""`runner ls`: the models in the local store, read straight from it."""

from __future__ import annotations

from runner.cli.options import AsJson

_HEADER = ("MODEL", "PARAMETERS", "QUANTIZATION", "ARCHITECTURE", "ID", "SIZE")


def ls(as_json: AsJson = False) -> None:
    """List the models in the local store."""
    from runner.cli.background import this_home
    from runner.cli.models import local_store
    from runner.cli.output import short_id, show_json, size, table
    from runner.models.listing import model_json, short_tags

    models = local_store(this_home()).list()
    if as_json:
        show_json([model_json(model) for model in models])
        return
    table(
        _HEADER,
        [
            (
                tag,
                model.config.parameters or "-",
                model.config.quantization or "-",
                model.config.architecture or "-",
                short_id(model.id),
                size(model.size),
            )
            for model in models
            for tag in short_tags(model) or ("<none>",)
        ],
    )

"""`runner rm`: removes models from the local store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from runner.cli.options import AsJson, Force

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.errors import RunnerError


def rm(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Models in the store, by name or ID.")
    ],
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Remove models from the local store.

    One of several names is only taken away; with the last one the model goes.
    What can't be removed does not keep the others: it is named at the end.

    \b
    Example:
      runner rm ai/smollm2 hf.co/org/repo:Q4_K_M
    """
    from runner.cli.agreement import agree
    from runner.cli.background import client_with_engines, this_home
    from runner.cli.models import model_path, show_removal, this_store
    from runner.errors import Conflict, ModelNotFound
    from runner.models.listing import removal_json

    client = client_with_engines(this_home())
    store = this_store()
    if client:
        agree(client, store)
    removed: list[dict[str, str]] = []
    failed: list[RunnerError] = []
    for model in models:
        try:
            if client:
                removed += client.delete(f"{model_path(store, model)}?force={str(force).lower()}")
            else:
                removed += removal_json(store.remove(model, force=force))
        except (ModelNotFound, Conflict) as error:
            failed.append(error)
    show_removal(removed, store.defaults, as_json=as_json)
    if failed:
        raise _together(failed)


def _together(errors: Sequence[RunnerError]) -> RunnerError:
    """One error that says what all of them say; of the first one's kind."""
    hints = dict.fromkeys(error.hint for error in errors if error.hint)
    said = "; ".join(error.message for error in errors)
    return type(errors[0])(said, hint="; ".join(hints))

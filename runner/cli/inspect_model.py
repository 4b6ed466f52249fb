"""`runner inspect`: all that is known of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from runner.cli.options import AsJson

if TYPE_CHECKING:
    from runner.registry.reference import Reference
    from runner.store.store import ModelStore


def inspect_model(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Models, by name or ID.")],
    remote: Annotated[
        bool, typer.Option("--remote", "-r", help="Ask its registry or hub, not the local store.")
    ] = False,
    as_json: AsJson = True,
) -> None:
    """Show all that is known of a model, as JSON; of several models, as a list.

    \b
    Examples:
      runner inspect ai/smollm2
      runner inspect ai/smollm2 myorg/mymodel:F16
      runner inspect --remote ai/smollm2:360M-Q4_K_M
      runner inspect --remote hf.co/ORG/REPO:Q4_K_M
    """
    from runner.cli.output import show_json
    from runner.configuration import load
    from runner.models.inspection import inspect_remote
    from runner.store.store import store_of

    del as_json  # it always is; scripts say it everywhere
    configuration = load()
    store = store_of(configuration)
    found = [
        inspect_remote(store, _named(store, model), configuration.settings)
        if remote
        else _local(store, model)
        for model in models
    ]
    show_json(found if len(found) > 1 else found[0])


def _named(store: ModelStore, model: str) -> Reference:
    """Raises BadReference for an ID, which no registry is asked by."""
    from runner.errors import BadReference
    from runner.models.naming import model_id

    if model_id(model):
        raise BadReference(
            f"{model} is an ID, which names no registry", hint="give one of the model's names"
        )
    return store.reference(model)


def _local(store: ModelStore, model: str) -> dict[str, object]:
    """Raises ModelNotFound with what helps here: a pull, or a question to the registry."""
    from runner.errors import ModelNotFound
    from runner.models.inspection import inspect_local
    from runner.models.naming import model_id

    try:
        return inspect_local(store, model)
    except ModelNotFound as error:
        if not model_id(model):
            error.hint += f"; `runner pull {model}` fetches it, --remote asks its registry"
        raise

"""`runner tag`: one more name for a model."""

from __future__ import annotations

from typing import Annotated

import typer

from runner.cli.options import AsJson, Model


def tag(
    model: Model,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The name to give it, such as myorg/mymodel:2.")
    ],
    as_json: AsJson = False,
) -> None:
    """Give a model one more name.

    \b
    Example:
      runner tag ai/smollm2 localhost:5000/smollm2:mine
    """
    from runner.cli.models import this_store
    from runner.cli.output import note, show_json

    store = this_store()
    reference = store.reference(name)
    tagged = store.tag(model, reference)
    if as_json:
        show_json({"id": tagged.id, "target": reference.short})
    else:
        note(f"{model} is also called {reference.short}")
        print(tagged.id)

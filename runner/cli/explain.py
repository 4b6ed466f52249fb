"""`runner explain`: which engine serves a model, why, why not the others, and how it is started."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from runner.cli.options import AsJson, GpuWish, ModeWish

if TYPE_CHECKING:
    from collections.abc import Mapping


def explain(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model in the store, by name or ID.")
    ],
    backend: Annotated[
        str, typer.Option("--backend", metavar="ENGINE", help="As if this one were asked for.")
    ] = "",
    gpu: GpuWish = "auto",
    mode: ModeWish = "",
    as_json: AsJson = False,
) -> None:
    """Tell which engine would serve a model, and why.

    No engine is started.

    \b
    Examples:
      runner explain ai/smollm2
      runner explain ai/smollm2 --backend vllm --gpu cuda
    """
    from urllib.parse import urlencode

    from runner.cli.background import running_client
    from runner.cli.options import engine_path
    from runner.cli.output import plain, show_json

    asked = {"model": model, "engine": engine_path(backend, gpu), "mode": mode}
    found: Mapping[str, Any] = running_client().get(f"/runner/v1/explain?{urlencode(asked)}")
    if as_json:
        show_json(found)
        return
    from runner.cli.explanation import lines

    print(plain("\n".join(lines(found))))

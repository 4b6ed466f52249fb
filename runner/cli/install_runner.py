"""`runner install-runner`: makes an engine ready, by pulling or building its image."""

from __future__ import annotations

from typing import Annotated

import typer

from runner.cli.options import AsJson, Backend, Gpu


def install_runner(
    backend: Backend = "llama.cpp",
    gpu: Gpu = "auto",
    force: Annotated[bool, typer.Option("--force", help="Pull or build again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Install an engine: pull or build its image."""
    from runner.cli.background import running_client
    from runner.cli.output import show_json
    from runner.cli.progress import show

    body = {"backend": backend, "gpu": gpu, "force": force}
    done = show(running_client().job("/runner/v1/install", body))
    if as_json:
        show_json(done["install"])
    else:
        print(done["message"])

"""`runner install-runner`: makes an engine ready, from an image or in an environment."""

from __future__ import annotations

from typing import Annotated

import typer

from runner.cli.options import AsJson, Backend, Gpu, Variant, Version


def install_runner(
    backend: Backend = "llama.cpp",
    gpu: Gpu = "auto",
    variant: Variant = "",
    version: Version = "",
    force: Annotated[bool, typer.Option("--force", help="Pull or build again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Install an engine, as an image or an environment.

    \b
    Examples:
      runner install-runner --backend vllm --gpu cuda
      runner install-runner --backend llama.cpp:cuda12
    """
    from runner.cli.background import running_client
    from runner.cli.output import show_json
    from runner.cli.progress import show

    body = {
        "backend": backend,
        "gpu": gpu,
        "variant": variant,
        "version": version,
        "force": force,
    }
    done = show(running_client().job("/runner/v1/install", body))
    if as_json:
        show_json(done["install"])
    else:
        print(done["message"])

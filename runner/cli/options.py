"""Arguments and options that several commands share, so that they read alike."""

from __future__ import annotations

from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Backend = Annotated[str, typer.Option("--backend", help="The engine, such as llama.cpp.")]
Gpu = Annotated[
    str,
    typer.Option("--gpu", help="none, auto, cuda, rocm, vulkan, sycl, musa, cann or metal."),
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Do it although it is in use.")]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="A model in the store, by name or ID.")]
RegistryHost = Annotated[
    str, typer.Argument(metavar="[REGISTRY]", help="Its host and port; without one: Docker Hub.")
]

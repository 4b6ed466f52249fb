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
GpuWish = Annotated[
    str,
    typer.Option(
        "--gpu",
        metavar="GPU",
        help="Only with this accelerator; none: on the CPU; auto: as it suits.",
    ),
]
ModeWish = Annotated[
    str, typer.Option("--mode", metavar="MODE", help="completion, embedding or reranking.")
]
Variant = Annotated[
    str, typer.Option("--variant", metavar="NAME", help="The engine's variant, such as cuda12.")
]
Version = Annotated[
    str, typer.Option("--version", metavar="VERSION", help="Only if it is this version.")
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Do it although it is in use.")]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="A model in the store, by name or ID.")]
RegistryHost = Annotated[
    str, typer.Argument(metavar="[REGISTRY]", help="Its host and port; without one: Docker Hub.")
]


def engine_path(backend: str, gpu: str) -> str:
    """Who shall serve, as paths write it after /engines/: `vllm`, `vllm:cuda`, `any:rocm`; empty
    for any. Raises BadInput, EngineNotFound."""
    from runner.errors import BadInput
    from runner.names import Target, accelerator, target

    wanted, asked = accelerator(gpu), target(backend) if backend else Target()
    if wanted is None:
        return str(asked)
    if asked.variant:
        raise BadInput(
            f"--backend {backend} names a variant already",
            hint=f"leave out :{asked.variant}, or --gpu",
        )
    return str(Target(asked.engine, wanted.value))

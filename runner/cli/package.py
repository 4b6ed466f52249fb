"""`runner package`: makes a model artifact out of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runner.cli.options import AsJson


def package(
    model: Annotated[str, typer.Argument(help="The name to give it, such as myorg/mymodel:Q8_0.")],
    gguf: Annotated[Path, typer.Option("--gguf", help="The GGUF file to package.")],
    chat_template: Annotated[
        Path | None, typer.Option("--chat-template", help="A Jinja file to use for chats.")
    ] = None,
    license_file: Annotated[
        list[Path] | None, typer.Option("--license", "-l", help="A licence; may be repeated.")
    ] = None,
    context_size: Annotated[
        int | None, typer.Option("--context-size", min=1, help="Tokens; the default at each load.")
    ] = None,
    push: Annotated[bool, typer.Option("--push", help="Push it to its registry.")] = False,
    as_json: AsJson = False,
) -> None:
    """Package a GGUF file as an OCI artifact."""
    from runner.cli.models import local_store, push_model, reference_of
    from runner.cli.output import note, show_json, size
    from runner.configuration import load
    from runner.models.package import package_gguf

    configuration = load()
    reference = reference_of(model, configuration.settings)
    configuration.home.prepare()
    packaged = package_gguf(
        local_store(configuration.home),
        gguf.expanduser(),
        reference,
        context_size=context_size,
        chat_template=chat_template,
        licenses=tuple(license_file or ()),
    )
    note(f"packaged {gguf.name} ({size(packaged.size)}) as {reference.short}")
    digest = push_model(reference.long) if push else packaged.id
    if as_json:
        show_json({"id": packaged.id, "reference": reference.long, "pushed": push})
    else:
        print(digest)

"""`runner package`: makes a model artifact out of files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runner.cli.options import AsJson

if TYPE_CHECKING:
    from runner.models.package_order import PackageFormat, PackageOrder
    from runner.registry.reference import Reference
    from runner.store.store import ModelStore
    from runner.store.stored import StoredModel

_KINDS = "--gguf takes a GGUF file, --safetensors a folder of them, --dir any other model folder"


def package(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The name it gets, such as myorg/mymodel:Q4_K_M.")
    ],
    *,
    gguf: Annotated[
        Path | None, typer.Option("--gguf", metavar="FILE", help="A GGUF file, or any shard of it.")
    ] = None,
    safetensors: Annotated[
        Path | None,
        typer.Option(
            "--safetensors", "--safetensors-dir", metavar="DIR", help="A folder of safetensors."
        ),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="A model folder of any other kind.")
    ] = None,
    dduf: Annotated[
        Path | None, typer.Option("--dduf", metavar="FILE", help="A DDUF file (diffusers).")
    ] = None,
    lora: Annotated[
        Path | None, typer.Option("--lora", metavar="FILE", help="An adapter, a file or folder.")
    ] = None,
    base: Annotated[
        str, typer.Option("--base", metavar="MODEL", help="The model that the adapter is for.")
    ] = "",
    from_model: Annotated[
        str, typer.Option("--from", metavar="MODEL", help="A model in the store, packaged anew.")
    ] = "",
    mmproj: Annotated[
        Path | None, typer.Option("--mmproj", metavar="FILE", help="The projector of a GGUF model.")
    ] = None,
    chat_template: Annotated[
        Path | None,
        typer.Option("--chat-template", metavar="FILE", help="A Jinja file to use for chats."),
    ] = None,
    license_file: Annotated[
        list[Path] | None,
        typer.Option("--license", "-l", metavar="FILE", help="A licence; may be repeated."),
    ] = None,
    context_size: Annotated[
        int | None,
        typer.Option("--context-size", metavar="TOKENS", min=1, help="The default at each load."),
    ] = None,
    dialect: Annotated[
        str | None, typer.Option("--format", metavar="docker|cncf", help="Whose artifact it is.")
    ] = None,
    link: Annotated[
        bool,
        typer.Option(
            "--link", help="Hard links, no copies: your files become read-only; leave them be."
        ),
    ] = False,
    push: Annotated[bool, typer.Option("--push", help="Push it to its registry.")] = False,
    as_json: AsJson = False,
) -> None:
    """Package model files as an OCI artifact.

    \b
    Examples:
      runner package --gguf ./model.gguf --push myorg/mymodel:Q4_K_M
      runner package --safetensors ./model/ --push myorg/mymodel-vllm
      runner package --lora ./adapter.gguf --base ai/smollm2 myorg/adapter
      runner package --from ai/smollm2 --context-size 8192 myorg/smollm2:8k
    """
    from runner.cli.models import push_model, this_store
    from runner.cli.output import show_json
    from runner.models.package_order import PackageOrder

    store = this_store()
    reference = store.reference(name)
    if push:
        _require_registry(reference)
    packaged = carry_out(
        store,
        PackageOrder(
            reference,
            gguf=gguf,
            safetensors=safetensors,
            folder=folder,
            dduf=dduf,
            lora=lora,
            base=base,
            from_model=from_model,
            mmproj=mmproj,
            chat_template=chat_template,
            licenses=tuple(license_file or ()),
            context_size=context_size,
            dialect=_dialect(dialect),
            link=link,
        ),
    )
    digest = push_model(reference.long, packaged.id) if push else packaged.id
    if as_json:
        show_json({"id": packaged.id, "reference": reference.long, "pushed": push})
    else:
        print(digest)


def package_path(store: ModelStore, path: Path, reference: Reference) -> StoredModel:
    """Packages what a path holds: a folder, or a file of the kind that its name says."""
    from runner.models.package_order import PackageOrder

    if path.is_dir():
        return carry_out(store, PackageOrder(reference, folder=path))
    if path.suffix.lower() == ".dduf":
        return carry_out(store, PackageOrder(reference, dduf=path))
    if path.suffix.lower() == ".safetensors":
        return carry_out(store, PackageOrder(reference, safetensors=path))
    return carry_out(store, PackageOrder(reference, gguf=path))


def carry_out(store: ModelStore, order: PackageOrder) -> StoredModel:
    """Packages in this process and says what came of it."""
    from runner.cli.background import this_home
    from runner.cli.output import note, size
    from runner.cli.progress import shown_events
    from runner.errors import BadInput
    from runner.models.package import package as make

    this_home().prepare()
    try:
        with shown_events() as progress:
            model = make(store, order, progress)
    except BadInput as error:
        if not isinstance(error.__cause__, OSError) and _is_about(order, error.message):
            error.hint = error.hint or _KINDS
        raise
    note(f"packaged {order.sources[0]} ({size(model.size)}) as {order.reference.short}")
    if model.config.pickles:
        note("warning: it holds pickles, files that can run code when a model is loaded")
    return model


def _require_registry(reference: Reference) -> None:
    """Raises BadInput before any work for what can't be pushed."""
    from runner.models.transfer import require_registry

    require_registry(reference)


def _is_about(order: PackageOrder, message: str) -> bool:
    """Whether it speaks of what is packaged, not of what is put beside it."""
    return any(Path(source).name in message for source in order.sources)


def _dialect(text: str | None) -> PackageFormat | None:
    from runner.errors import BadInput
    from runner.models.package_order import PackageFormat

    try:
        return PackageFormat(text) if text else None
    except ValueError as error:
        raise BadInput(f"{text!r} is no format of artifacts", hint="docker or cncf") from error

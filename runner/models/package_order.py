"""What is to be packaged, and how: the words of `runner package` as a value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from runner.artifacts.artifact import MAX_CONTEXT
from runner.errors import BadInput
from runner.registry.reference import Reference


class PackageFormat(StrEnum):
    """Whose artifacts they shall be: Docker Model Runner's or CNCF ModelPack's."""

    DOCKER = "docker"
    CNCF = "cncf"


@dataclass(frozen=True, slots=True)
class PackageOrder:
    """Exactly one of `gguf`, `safetensors`, `folder`, `dduf`, `lora` and `from_model` says what
    is packaged; `reference` is the name it gets. Paths may be relative, and begin with `~`.

    `gguf` is a file or any shard of several; `safetensors` a folder or a file; `folder` a model of
    any other kind; `lora` a GGUF adapter or the folder of a safetensors one, made for the model
    that `base` names; `from_model` a model in the store. Without a `dialect` it is Docker's, and
    a model of the store keeps its own. `link` makes the weights hard links. `created` (seconds
    since 1970) stands for every time in the artifact; 0: a model of the store keeps its own.
    """

    reference: Reference
    gguf: Path | None = None
    safetensors: Path | None = None
    folder: Path | None = None
    dduf: Path | None = None
    lora: Path | None = None
    from_model: str = ""
    mmproj: Path | None = None
    chat_template: Path | None = None
    licenses: tuple[Path, ...] = ()
    context_size: int | None = None
    dialect: PackageFormat | None = None
    base: str = ""
    link: bool = False
    created: int = 0

    @property
    def sources(self) -> tuple[Path | str, ...]:
        """What was named to be packaged: one thing, in an order that can be."""
        named = (self.gguf, self.safetensors, self.folder, self.dduf, self.lora, self.from_model)
        return tuple(source for source in named if source)


_HINT = "name one: --gguf, --safetensors, --dir, --dduf, --lora or --from"


def check_order(order: PackageOrder) -> None:
    """Raises BadInput for an order that contradicts itself, before any file is looked at."""
    if order.sources == (order.lora, order.from_model):
        raise BadInput(
            "an adapter is not packaged from another model",
            hint=f"name the model that it is for with --base {order.from_model}",
        )
    if len(order.sources) > 1:
        shown = ", ".join(str(source) for source in order.sources)
        raise BadInput(f"only one model can be packaged at a time, not {shown}", hint=_HINT)
    if not order.sources:
        raise BadInput("nothing says what is to be packaged", hint=_HINT)
    if order.reference.digest:
        raise BadInput(
            f"a model can't be packaged as {order.reference.short}: its digest is not known before",
            hint="name it by a tag, such as myorg/mymodel:Q4_K_M",
        )
    if order.base and not order.lora:
        raise BadInput(
            "only an adapter has a base model", hint="package an adapter with --lora FILE"
        )
    if order.mmproj and not (order.gguf or order.folder or order.from_model):
        raise BadInput(
            "a projector (--mmproj) belongs to a GGUF model",
            hint="other formats hold their vision part in the weights themselves",
        )
    if order.context_size is not None and not 0 < order.context_size <= MAX_CONTEXT:
        raise BadInput(
            f"a context size of {order.context_size} is out of range",
            hint="leave it out for what the model was trained with",
        )

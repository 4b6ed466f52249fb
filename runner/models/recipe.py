"""What an artifact is going to be made of: files, known by their names and sizes, and a config."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from runner.artifacts.artifact import ModelConfig
from runner.artifacts.artifact_writer import PackedFile
from runner.artifacts.media import Dialect, LayerKind, ModelFormat
from runner.errors import BadInput
from runner.models.package_order import PackageOrder
from runner.store.files import explain
from runner.weights.gguf import GgufInfo, read_gguf

MAX_TEXT_FILE = 16 * 1024 * 1024
FOLDERS_TEMPLATE = "chat_template.jinja"
"""The name under which engines that read a whole folder look for it."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file that is not in the store yet; `name` is its path in the model, `size` bytes."""

    kind: LayerKind
    name: str
    path: Path
    size: int


Ingredient = LocalFile | PackedFile


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that the artifact will say, but for the digests of files that are not in the
    store yet."""

    config: ModelConfig
    files: tuple[Ingredient, ...]
    dialect: Dialect
    annotations: Mapping[str, str] = field(default_factory=dict)
    created: int = 0


def local_file(kind: LayerKind, path: Path, name: str = "") -> LocalFile:
    """Raises BadInput for what is no file."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise explain(error, path) from error
    if not path.is_file():
        raise BadInput(f"{path} is not a file", hint="give the file itself")
    return LocalFile(kind, name or path.name, path, size)


def with_extras(recipe: Recipe, order: PackageOrder) -> Recipe:
    """Adds the projector, the template and the licences that were asked for; the first two take
    the place of the model's own. Raises BadInput also for a projector that is none and a template
    that is no text, BadModelFile for a projector that is no GGUF.
    """
    if order.mmproj and recipe.config.format is not ModelFormat.GGUF:
        raise BadInput(
            f"a projector (--mmproj) belongs to a GGUF model, this one is"
            f" {recipe.config.format.value}",
            hint="leave --mmproj out: such models bring their own",
        )
    kept = tuple(file for file in recipe.files if not _is_replaced(file, order))
    names = [file.name for file in kept]
    extras = []
    for extra in _extras(order, recipe.dialect):
        if recipe.dialect is not Dialect.DOCKER_V01:
            extra = replace(extra, name=free_name(extra.name, names))  # noqa: PLW2901
        names.append(extra.name)
        extras.append(extra)
    return replace(recipe, files=(*kept, *extras))


def is_projector(info: GgufInfo) -> bool:
    """Whether a GGUF file says that it turns images or sound into a model's embeddings."""
    return info.architecture == "clip" or info.text("general.type") == "mmproj"


def expanded(path: Path) -> Path:
    """`~` is the user's folder also where no shell has said so. Raises BadInput for a pipe, which
    could be read once only, and a device."""
    try:
        found = path.expanduser()
    except RuntimeError as error:
        raise BadInput(f"no home folder is known for {path}", hint="write it out") from error
    if found.exists() and not found.is_file() and not found.is_dir():
        raise BadInput(
            f"{path} is neither a file nor a folder", hint="save what it gives to a file first"
        )
    return found


def free_name(name: str, taken: Iterable[str]) -> str:
    """The name, numbered where another file of the model has it."""
    path, number = PurePosixPath(name), 1
    while name in taken:
        number += 1
        name = f"{path.stem}-{number}{path.suffix}"
    return name


def _extras(order: PackageOrder, dialect: Dialect) -> Iterable[LocalFile]:
    if order.mmproj:
        yield _projector_file(expanded(order.mmproj))
    if order.chat_template:
        path = expanded(order.chat_template)
        name = FOLDERS_TEMPLATE if dialect is Dialect.DOCKER_V02 else ""
        yield _template_file(path, name)
    for license_file in order.licenses:
        yield _text_file(LayerKind.LICENSE, expanded(license_file))


def _projector_file(path: Path) -> LocalFile:
    if not is_projector(read_gguf(path)):
        raise BadInput(
            f"{path.name} is no projector",
            hint="give --mmproj the file that was made for it, such as mmproj-model-f16.gguf",
        )
    return local_file(LayerKind.MMPROJ, path)


def _template_file(path: Path, name: str) -> LocalFile:
    file = _text_file(LayerKind.CHAT_TEMPLATE, path, name)
    try:
        path.read_text(encoding="utf-8")
    except OSError as error:
        raise explain(error, path) from error
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{path} is not text in UTF-8", hint="give --chat-template a Jinja file, saved as UTF-8"
        ) from error
    return file


def _text_file(kind: LayerKind, path: Path, name: str = "") -> LocalFile:
    file = local_file(kind, path, name)
    if file.size > MAX_TEXT_FILE:
        raise BadInput(
            f"{path} is larger than {MAX_TEXT_FILE // 1024 // 1024} MiB",
            hint="a licence or template is a short text: check which file it is",
        )
    return file


def _is_replaced(file: Ingredient, order: PackageOrder) -> bool:
    """Templates of a folder's parts, such as tokenizers in sub-folders, stay."""
    if file.kind is LayerKind.CHAT_TEMPLATE:
        return order.chat_template is not None and "/" not in file.name
    return file.kind is LayerKind.MMPROJ and order.mmproj is not None

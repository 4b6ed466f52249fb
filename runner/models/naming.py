"""What a person may write where a model is wanted: a reference, a path, or an ID."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from runner.errors import BadReference
from runner.registry.digest import PREFIX, SHORT_ID, id_digits
from runner.registry.hubnames import hub_name
from runner.registry.reference import STANDARD, Defaults, Reference, parse

_FILES = (".gguf", ".safetensors", ".dduf")


@dataclass(frozen=True, slots=True)
class LocalPath:
    """A file or folder of this machine, `~` expanded. It need not be there."""

    path: Path


@dataclass(frozen=True, slots=True)
class ModelId:
    """A model's ID, or the first 12 or more of its hex digits, without `sha256:`."""

    digits: str


def read_name(text: str, defaults: Defaults = STANDARD) -> Reference | LocalPath | ModelId:
    """Tells by the spelling alone, without a look at the disk; raises BadReference.

    Paths begin with `.`, `/`, `~` or `file://`, or end with `/` or a model file's ending
    (`models/x.gguf`); other names are references, so that a folder here never hides a model.
    12 or more hex digits are an ID, though a model of that name would be one by `parse`.
    """
    if _is_path(text):
        return LocalPath(_path(text))
    digits = model_id(text)
    return ModelId(digits) if digits else parse(text, defaults)


def model_id(text: str) -> str:
    """The hex digits of what is spelled as an ID, empty for anything else. Raises BadReference
    for fewer digits after `sha256:`."""
    digits = id_digits(text)
    if digits:
        return digits
    if text.startswith(PREFIX):
        raise BadReference(
            f"{text!r} is not a model's ID",
            hint=f"an ID is {PREFIX} and {SHORT_ID} to 64 hex digits; runner ls lists them",
        )
    return ""


def _is_path(text: str) -> bool:
    if text.startswith((".", "/", "~")) or text.lower().startswith("file://"):
        return True
    elsewhere = "://" in text or ":" in text.partition("/")[0] or hub_name(text) is not None
    return not elsewhere and text.lower().endswith((*_FILES, "/"))


def _path(text: str) -> Path:
    if "\0" in unquote(text):
        raise BadReference(
            f"{text!r} holds a control character", hint="write the file's name as `ls` shows it"
        )
    if text.lower().startswith("file://"):
        return _path_of_url(text)
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise BadReference(
            f"no home folder is known for {text!r}", hint="write the whole path"
        ) from error


def _path_of_url(text: str) -> Path:
    host, slash, path = text[len("file://") :].partition("/")
    if host.lower() not in {"", "localhost"} or not path:
        raise BadReference(
            f"{text!r} names another machine's file", hint="write file:///the/whole/path"
        )
    return Path(unquote(slash + path))

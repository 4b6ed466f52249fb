"""Chat templates that users give: their texts, kept as files that engines are given.

A client of the API says what a template is, never where one lies: the daemon opens no file that
somebody else names. Only the settings file, which is the operator's, may name one.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.engines.option_values import option_name
from runner.errors import BadInput, Unavailable

OPTION = "chat_template"
MAX_BYTES = 1 << 20
_SHOWN = 40
_JINJA = re.compile(r"\{[{%]")
_READS_FILE = "`runner configure --chat-template FILE` reads the file and sends its text"


@dataclass(frozen=True, slots=True)
class Templates:
    """Under their digests, in one folder that is closed to other users."""

    folder: Path

    def place(self, text: object) -> Path:
        """Where this template is, or would be kept; raises BadInput for what is none, such as
        the path of one."""
        return self.folder / f"{hashlib.sha256(_content(text)).hexdigest()}.jinja"

    def keep(self, text: object) -> Path:
        """Raises BadInput, Unavailable."""
        place = self.place(text)
        if place.is_file():
            return place
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(place, _content(text))
        except OSError as error:
            raise Unavailable(
                f"can't keep a chat template in {self.folder}: {error.strerror}",
                hint="is the disk full, or the folder not writable?",
            ) from error
        return place


def is_template(name: str) -> bool:
    """Whether this is a name of the option."""
    try:
        return option_name(name) == OPTION
    except BadInput:
        return False


def refuse_named_file(options: Mapping[str, Any]) -> None:
    """For options that were read from a client's flags: theirs is the path of a file."""
    if OPTION in options:
        raise BadInput(
            "a flag can't name the file of a chat template: the daemon opens no file for a client",
            hint=_READS_FILE,
        )


def read_template(path: Path) -> str:
    """A template's file as text; raises BadInput."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadInput(
            f"{OPTION}: can't read {path}: {error.strerror}", hint="name a Jinja file"
        ) from error
    if len(content) > MAX_BYTES:
        raise _too_long()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{OPTION}: {path} is not text in UTF-8", hint="name a Jinja file"
        ) from error
    _content(text)
    return text


def _content(text: object) -> bytes:
    if not isinstance(text, str):
        raise BadInput(f"{OPTION} is {text!r:.{_SHOWN}}, which is not a text", hint=_READS_FILE)
    if not _JINJA.search(text):
        raise BadInput(
            f"{OPTION}: {text[:_SHOWN]!r} is no Jinja template: give the text, not a path",
            hint=_READS_FILE,
        )
    try:
        content = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadInput(f"{OPTION} holds half a character", hint="save it as UTF-8") from error
    if len(content) > MAX_BYTES:
        raise _too_long()
    return content


def _too_long() -> BadInput:
    return BadInput(
        f"{OPTION} has more than {MAX_BYTES} bytes", hint="is it the file of a template?"
    )


def _write(place: Path, content: bytes) -> None:
    """Whole or not at all. Everybody may read the file itself, in a folder that is closed: an
    engine's container has another user, and is given this one file."""
    handle, name = tempfile.mkstemp(dir=place.parent, prefix=".")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).chmod(0o644)
        Path(name).replace(place)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise

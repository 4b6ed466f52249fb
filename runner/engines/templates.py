"""Chat templates that users give: their texts, kept as files that engines are given.

A client of the API says what a template is, never where one lies: the daemon opens no file that
somebody else names. Only the settings file, which is the operator's, may name one.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.engines.option_values import known_option
from runner.errors import BadInput, Unavailable

OPTION = "chat_template"
MAX_BYTES = 1 << 20
KEPT_S = 3600.0
"""So long a template stays that no configuration names any more."""
_SHOWN = 40
_FILE = re.compile(r"[0-9a-f]{64}\.jinja")
_PART = "."
"""So begins the name of a file that is being written."""
_CHANGES = threading.Lock()
"""One daemon keeps and removes, in many threads: no file goes between a look and a touch."""
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
        try:
            with _CHANGES:
                if not _touched(place):
                    self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                    _write(place, _content(text))
        except OSError as error:
            raise Unavailable(
                f"can't keep a chat template in {self.folder}: {error.strerror}",
                hint="is the disk full, or the folder not writable?",
            ) from error
        return place

    def mark(self, documents: Iterable[str]) -> None:
        """Notes that what these texts name is in use now: the time that the others have left
        counts from the last such note."""
        with _CHANGES, suppress(OSError):
            for name in _named(documents):
                _touched(self.folder / name)

    def prune(self, documents: Iterable[str]) -> None:
        """Removes what none of these texts names, and what writes that were cut off have left.

        Not at once: a start may just have read the configuration that named a template, and would
        find its file gone. So a file stays for an hour after it was last in use, which no start
        comes near to; a later change takes it. One that can't be removed stays.
        """
        before = time.time() - KEPT_S
        with _CHANGES:
            kept = _named(documents)
            for file in self._files():
                if file.name not in kept:
                    _remove_older(file, before)

    def _files(self) -> list[Path]:
        try:
            return [file for file in self.folder.iterdir() if _is_ours(file.name)]
        except OSError:
            return []


def _named(documents: Iterable[str]) -> frozenset[str]:
    """In texts of any form: one that is not readable otherwise still holds its templates."""
    return frozenset(name for text in documents for name in _FILE.findall(text))


def _is_ours(name: str) -> bool:
    return name.startswith(_PART) or _FILE.fullmatch(name) is not None


def _remove_older(file: Path, before: float) -> None:
    with suppress(OSError):
        if file.stat().st_mtime < before:
            file.unlink()


def _touched(file: Path) -> bool:
    """Whether it is there."""
    try:
        os.utime(file)
    except FileNotFoundError:
        return False
    return True


def is_template(name: str) -> bool:
    """Whether this is a name of the option."""
    return known_option(name) == OPTION


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
    handle, name = tempfile.mkstemp(dir=place.parent, prefix=_PART)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).chmod(0o644)
        Path(name).replace(place)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise

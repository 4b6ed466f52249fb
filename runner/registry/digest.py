"""Digests: `sha256:` and 64 lower-case hex digits, the name of any content."""

from __future__ import annotations

import hashlib
import re

PREFIX = "sha256:"
SHORT_ID = 12
"""How many of a digest's digits people are shown, and have to give at least."""

_DIGEST = re.compile(rf"{PREFIX}[0-9a-f]{{64}}", re.ASCII)
_ID = re.compile(rf"(?:{PREFIX})?([0-9a-f]{{{SHORT_ID},64}})", re.ASCII)


def is_digest(text: str) -> bool:
    return _DIGEST.fullmatch(text) is not None


def digest_of(content: bytes) -> str:
    return digest_from(hashlib.sha256(content).hexdigest())


def digest_from(digits: str) -> str:
    """The digest of these hex digits, for content that is hashed piece by piece."""
    return PREFIX + digits


def hex_of(digest: str) -> str:
    """A digest's digits alone, such as files are named by."""
    return digest.removeprefix(PREFIX)


def id_digits(text: str) -> str:
    """The digits of an ID, written whole or by its beginning; empty for what is none."""
    match = _ID.fullmatch(text)
    return match[1] if match else ""

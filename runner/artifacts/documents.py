"""JSON documents that others wrote: manifests, configs, headers. Read within bounds. Pure."""

from __future__ import annotations

import json
from typing import Any

from runner.errors import BadModelFile

Json = Any
"""Whatever a JSON text holds, until it is checked."""


def json_object(content: bytes, limit: int, what: str) -> dict[str, Json]:
    """The object that a document holds. `what` names it; raises BadModelFile."""
    if len(content) > limit:
        raise BadModelFile(f"the {what} is larger than {limit // 1024 // 1024} MiB")
    if content.lstrip()[:1] == b"<":
        raise BadModelFile(f"a web page came instead of the {what}")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadModelFile(f"the {what} is not JSON") from error
    if not isinstance(document, dict):
        raise BadModelFile(f"the {what} is no JSON object")
    return document


def inner_object(document: Json, name: str) -> dict[str, Json]:
    """An object within a document; empty where there is none."""
    inner = document.get(name) if isinstance(document, dict) else None
    return inner if isinstance(inner, dict) else {}


def text_of(value: Json) -> str:
    """The value where it is a text, else empty."""
    return value if isinstance(value, str) else ""


def texts_of(value: Json) -> dict[str, str]:
    """An object's texts; what is none is empty."""
    return {str(k): text_of(v) for k, v in value.items()} if isinstance(value, dict) else {}


def whole_number(value: Json, most: int) -> int | None:
    """The value where it is a whole number from 1 to `most`."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and 0 < value <= most else None

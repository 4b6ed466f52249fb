"""Which inference request a path asks for. Pure; the gateway keeps what came out."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

from httptools import HttpParserInvalidURLError, parse_url

from runner.engines.base import Mode
from runner.errors import EngineNotFound
from runner.names import RESERVED
from runner.names import target as target_of

INFERENCE: dict[str, Mode] = {
    "/v1/chat/completions": Mode.COMPLETION,
    "/v1/completions": Mode.COMPLETION,
}
"""The paths that engines serve, each with the mode that an instance needs for it."""

_ENGINES = "/engines/"


@dataclass(frozen=True, slots=True)
class Route:
    """`engine` names who shall serve, canonically (`vllm`, `vllm:cuda`, `any:rocm`), None for
    any; `upstream` is the engine's own request target."""

    engine: str | None
    mode: Mode
    upstream: bytes


def find(target: bytes) -> Route | None:
    """The route of a request target, None where the path is not the data plane's.

    Raises EngineNotFound for an inference path under what can't be an engine's name; whether
    there is such an engine is the gateway's to ask.
    """
    try:
        url = parse_url(target)
    except HttpParserInvalidURLError:
        return None
    path = unquote((url.path or b"").decode("latin-1"))
    found = _split(path)
    if found is None:
        return None
    name, served = found
    query = b"?" + url.query if url.query else b""
    return Route(
        engine=None if name is None else _engine(name),
        mode=INFERENCE[served],
        upstream=served.encode() + query,
    )


def _split(path: str) -> tuple[str | None, str] | None:
    """(engine name or None, the path that engines serve); None for every other path."""
    if path in INFERENCE:
        return None, path
    if not path.startswith(_ENGINES):
        return None
    below = path.removeprefix(_ENGINES)
    if "/" + below in INFERENCE:
        return None, "/" + below
    name, slash, rest = below.partition("/")
    return (name, slash + rest) if slash + rest in INFERENCE else None


def _engine(name: str) -> str:
    if name.lower() in RESERVED:
        raise EngineNotFound(
            f"{name!r} is a word of the API, not an engine",
            hint="name an engine after /engines/, or leave it out: /engines/v1/…",
        )
    return str(target_of(name))

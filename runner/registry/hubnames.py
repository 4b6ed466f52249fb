"""Model hubs that are no OCI registries, and the ways in which people spell their names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

_PAGE = re.compile(
    r"(?P<name>[^/]+/[^/@]+(?:@[^?#]+?)?)(?:/tree/(?P<revision>[^?#]+?))?/?(?:[?#].*)?"
)


@dataclass(frozen=True, slots=True)
class HubName:
    """A hub: `registry` is its host in the long spelling, `prefix` what names begin with in the
    short one, `folder` what the addresses of its pages have before a model's name."""

    registry: str
    prefix: str
    hosts: frozenset[str]
    schemes: frozenset[str]
    folder: str = ""


HUGGING_FACE = HubName(
    registry="huggingface.co",
    prefix="hf.co/",
    hosts=frozenset({"huggingface.co", "www.huggingface.co", "hf.co"}),
    schemes=frozenset({"hf", "huggingface"}),
)
MODELSCOPE = HubName(
    registry="modelscope.cn",
    prefix="ms://",
    hosts=frozenset({"modelscope.cn", "www.modelscope.cn"}),
    schemes=frozenset({"ms", "modelscope"}),
    folder="models/",
)
HUBS = (HUGGING_FACE, MODELSCOPE)
_BY_REGISTRY = {hub.registry: hub for hub in HUBS}


def hub_of(registry: str) -> HubName | None:
    """The hub whose long spelling begins with this host."""
    return _BY_REGISTRY.get(registry)


def hub_name(text: str) -> tuple[HubName, str] | None:
    """The hub that a name or a page's address belongs to, and `ORG/NAME[:TAG][@REVISION]`;
    None where it belongs to none."""
    scheme, mark, rest = text.partition("://")
    for hub in HUBS:
        if mark and scheme.lower() in hub.schemes:
            return hub, rest
        if not mark or scheme.lower() in {"http", "https"}:
            host, _, path = (rest if mark else text).partition("/")
            if host.lower() in hub.hosts:
                return hub, _in_page(path.removeprefix(hub.folder), path)
    return None


def _in_page(path: str, whole: str) -> str:
    """The name that a page's path holds; other paths stay as they are."""
    match = _PAGE.fullmatch(path)
    if not match:
        return whole
    revision = f"@{unquote(match['revision'])}" if match["revision"] else ""
    return match["name"] + revision

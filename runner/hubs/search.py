"""Search: models by a part of their name, at Hugging Face and in a registry's catalogue."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING

from runner.errors import BadInput, RegistryError, RunnerError, ShuttingDown
from runner.registry.hubnames import HUGGING_FACE
from runner.registry.reference import Source, parse_registry

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

    from runner.hubs.session import HubSession
    from runner.registry.client import RegistryClient
    from runner.settings import Settings

MAX_RESULTS = 500
_FORMATS = ("gguf", "safetensors")


class SearchSource(StrEnum):
    """Where to look."""

    ALL = "all"
    HUGGING_FACE = "huggingface"
    REGISTRY = "registry"


@dataclass(frozen=True, slots=True)
class Found:
    """A model. `name` is a reference that can be pulled; numbers are 0 where nobody tells them."""

    name: str
    source: SearchSource
    description: str = ""
    format: str = ""
    parameters: int = 0
    downloads: int = 0
    likes: int = 0


@dataclass(frozen=True, slots=True)
class Results:
    """What was found, the most used first, and in `notes` which places could not be asked."""

    found: tuple[Found, ...]
    notes: tuple[str, ...] = ()


def search(
    term: str,
    settings: Settings,
    *,
    source: SearchSource = SearchSource.ALL,
    registry: str = "",
    limit: int = 32,
    cancelled: threading.Event | None = None,
) -> Results:
    """At most `limit` models of each place whose names hold `term`.

    A place that can't be asked is a note, and an error where it was the only one: RegistryError,
    RegistryUnauthorized, Unavailable. Raises BadInput, BadReference for what is no registry,
    ShuttingDown.
    """
    if not 0 < limit <= MAX_RESULTS:
        raise BadInput(
            f"a search gives 1 to {MAX_RESULTS} results, not {limit}",
            hint="give --limit a number between them",
        )
    host = parse_registry(registry) if registry else ""
    stop = cancelled or threading.Event()
    places: list[Callable[[], tuple[Found, ...]]] = []
    if source is not SearchSource.REGISTRY:
        places.append(lambda: _at_hugging_face(term, settings, limit, stop))
    if source is SearchSource.REGISTRY and not host:
        raise BadInput(
            "a registry's catalogue needs the registry's name", hint="--registry localhost:5000"
        )
    if source is not SearchSource.HUGGING_FACE and host:
        places.append(lambda: _in_catalogue(term, host, settings, limit, stop))
    return _asked(places)


def _asked(places: list[Callable[[], tuple[Found, ...]]]) -> Results:
    found: list[Found] = []
    errors: list[RunnerError] = []
    for place in places:
        try:
            found += place()
        except ShuttingDown:
            raise
        except RunnerError as error:
            errors.append(error)
    if len(errors) == len(places):
        raise errors[0]
    return Results(tuple(found), tuple(error.message for error in errors))


def _at_hugging_face(
    term: str, settings: Settings, limit: int, stop: threading.Event
) -> tuple[Found, ...]:
    from runner.hubs.session import HubSession

    session = HubSession(Source.HUGGING_FACE, settings, stop)
    try:
        found = {
            model.name: model
            for kind in _FORMATS
            for model in _of_format(session, term, kind, limit)
        }
    finally:
        session.close()
    ranked = sorted(found.values(), key=lambda model: (-model.downloads, model.name))
    return tuple(ranked[:limit])


def _of_format(session: HubSession, term: str, kind: str, limit: int) -> list[Found]:
    from runner.hubs.huggingface import api, asked

    with asked(session):
        models = api(session).list_models(
            search=term or None,
            filter=kind,
            sort="downloads",
            limit=limit,
            expand=["downloads", "likes", "pipeline_tag", "gated", "gguf", "safetensors"],
        )
        # names from before there were organisations can't be referred to
        return [_found(model, kind) for model in models if "/" in model.id]


def _found(model: ModelInfo, kind: str) -> Found:
    gguf = model.gguf or {}
    counted = model.safetensors.total if model.safetensors else gguf.get("total", 0)
    words = [(model.pipeline_tag or "").replace("-", " "), "gated" if model.gated else ""]
    return Found(
        name=HUGGING_FACE.prefix + model.id,
        source=SearchSource.HUGGING_FACE,
        description=", ".join(filter(None, words)),
        format=kind,
        parameters=counted if isinstance(counted, int) else 0,
        downloads=model.downloads or 0,
        likes=model.likes or 0,
    )


def _in_catalogue(
    term: str, registry: str, settings: Settings, limit: int, stop: threading.Event
) -> tuple[Found, ...]:
    from runner.registry.client import RegistryClient

    with RegistryClient(registry, settings, cancelled=stop) as client:
        names = sorted(name for name in client.catalog() if term.lower() in name.lower())
        tagged = ((name, _tag(client, name, settings.default_tag)) for name in names)
        found = (
            Found(
                f"{registry}/{name}:{tag}".removesuffix(f":{settings.default_tag}"),
                SearchSource.REGISTRY,
            )
            for name, tag in tagged
            if tag
        )
        return tuple(islice(found, limit))


def _tag(client: RegistryClient, repository: str, preferred: str) -> str:
    """A tag that can be pulled; empty for a repository that is listed but holds none for us."""
    try:
        tags = list(client.tags(repository))
    except RegistryError:
        return ""
    return preferred if preferred in tags else max(tags, default="")

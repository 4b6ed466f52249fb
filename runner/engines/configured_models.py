"""Which models something is configured for: under which name it is kept, and how it is shown."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.engines.configured import configured_json, from_document
from runner.engines.environment import shown
from runner.errors import BadInput, ModelNotFound
from runner.models.naming import LocalPath, ModelId, read_name

if TYPE_CHECKING:
    from runner.store.store import ModelStore
    from runner.store.stored import StoredModel


@dataclass(frozen=True, slots=True)
class Subject:
    """A model that is configured. `name` is what it is kept under: the long name, or the whole ID
    where an ID was written. `model` is None where the store does not have it yet."""

    name: str
    model: StoredModel | None

    @property
    def names(self) -> tuple[str, ...]:
        """All that configurations of this very model may be kept under."""
        if self.model is None:
            return (self.name,)
        return (self.name, self.model.id, *self.model.tags)


def subject(store: ModelStore, text: str) -> Subject:
    """Raises ModelNotFound for an ID that is not in the store, BadReference, BadInput."""
    name = read_name(text, store.defaults)
    if isinstance(name, LocalPath):
        raise BadInput(f"{text!r} is a path", hint="name the model as `runner ls` lists it")
    if isinstance(name, ModelId):
        model = store.get(text)
        return Subject(model.id, model)
    found = _stored(store, text)
    return Subject(name.digest or name.long, found)


def _stored(store: ModelStore, text: str) -> StoredModel | None:
    try:
        return store.get(text)
    except ModelNotFound:
        return None


def rows(
    stored: Mapping[tuple[str, str], str], names: Collection[str] | None = None
) -> list[dict[str, Any]]:
    """What is configured, of these models or all; secrets are redacted. A document that can't be
    read is told of, so that the others are still shown."""
    return [
        {"model": model, "backend": engine, **_row(document)}
        for (model, engine), document in stored.items()
        if names is None or model in names
    ]


def _row(document: str) -> dict[str, Any]:
    try:
        configured = from_document(document)
    except BadInput as error:
        return {"problem": error.message, "hint": error.hint}
    fields = configured_json(configured)
    return {**fields, "environment": dict(shown(configured.environment))}

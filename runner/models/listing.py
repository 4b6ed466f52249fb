"""How a stored model is shown to programs: Docker Model Runner's JSON."""

from __future__ import annotations

from runner.registry.reference import Defaults, from_long, short_of
from runner.store.store import Removed
from runner.store.stored import StoredModel


def short_tags(model: StoredModel, defaults: Defaults) -> tuple[str, ...]:
    """The names a person would write."""
    return tuple([short_of(tag, defaults) for tag in model.tags])


def model_json(model: StoredModel, defaults: Defaults) -> dict[str, object]:
    """A model as `GET /models` and `ls --json` show it: its tags in every spelling, since
    Compose compares the one in its file with each of them."""
    spelled = (from_long(tag, defaults).spellings for tag in model.tags)
    return {
        "id": model.id,
        "tags": [spelling for spellings in spelled for spelling in spellings],
        "created": model.created,
        "config": model.config.to_json(),
    }


def removal_json(removed: Removed) -> list[dict[str, str]]:
    """What a removal did, as `DELETE /models/{name}` and `rm --json` show it."""
    return [
        *({"Untagged": tag} for tag in removed.untagged),
        *({"Deleted": digest} for digest in removed.deleted),
    ]

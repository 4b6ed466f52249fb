"""What the model commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from runner.cli.client import Client
    from runner.home import Home
    from runner.models.store import ModelStore
    from runner.registry.reference import Reference
    from runner.settings import Settings


def reference_of(text: str, settings: Settings) -> Reference:
    from runner.registry.reference import parse

    return parse(
        text,
        default_organisation=settings.default_organisation,
    )


def local_store(home: Home) -> ModelStore:
    from runner.models.store import ModelStore

    return ModelStore(home.store)


def package_demo() -> None:
    """Puts the demo model into the store, under its own name; once there it costs nothing."""
    from runner.cli.demo import NAME
    from runner.configuration import load
    from runner.demo import gguf_path
    from runner.models.package import package_gguf

    configuration = load()
    configuration.home.prepare()
    reference = reference_of(NAME, configuration.settings)
    package_gguf(local_store(configuration.home), gguf_path(), reference)


def model_path(name: str, *more: str) -> str:
    """The daemon's path for a model; a name keeps its slashes."""
    return "/".join([f"/models/{quote(name, safe='/:@')}", *more])


def pull_model(client: Client, name: str) -> Mapping[str, Any]:
    from runner.cli.progress import show

    return show(client.job("/models/create", {"from": name}))


def push_model(name: str) -> str:
    """The manifest digest that the registry now has."""
    from runner.cli.background import running_client
    from runner.cli.output import note
    from runner.cli.progress import show

    done = show(running_client().job(model_path(name, "push"), {}))
    note(str(done["message"]))
    return str(done["digest"])

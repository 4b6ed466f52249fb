"""What the model commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from runner.cli.client import Client
    from runner.registry.reference import Defaults, Source
    from runner.store.store import ModelStore


def this_store() -> ModelStore:
    """The store of this home, or where the settings have moved it."""
    from runner.cli.background import this_home
    from runner.configuration import load, may_set
    from runner.store.store import SETTINGS, ModelStore, store_of

    if may_set(SETTINGS):
        return store_of(load())
    return ModelStore(this_home().store)


def package_demo() -> None:
    """Puts the demo model into the store, under its own name; once there it costs nothing."""
    from runner.cli.demo import NAME
    from runner.demo import gguf_path
    from runner.models.package import package
    from runner.models.package_order import PackageOrder

    store = this_store()
    package(store, PackageOrder(store.reference(NAME), gguf=gguf_path()))


def model_path(store: ModelStore, name: str, *more: str) -> str:
    """The daemon's path for a model, which says its whole name: `purge` alone is a route."""
    from runner.models.naming import ModelId, read_name

    read = read_name(name, store.defaults)
    whole = name if isinstance(read, ModelId) else store.reference(name).long
    return "/".join([f"/models/{quote(whole, safe='/:@')}", *more])


def pull_model(client: Client, name: str) -> Mapping[str, Any]:
    """Raises KeyboardInterrupt once it has said that nothing is lost."""
    from runner.cli.agreement import agree
    from runner.cli.output import note
    from runner.cli.progress import show

    store = this_store()
    source = store.reference(name).source
    agree(client, store, source)
    body = {"from": name, **_token_for(source)}
    try:
        return show(client.job("/models/create", body))
    except KeyboardInterrupt:
        note(f"stopped; `runner pull {name}` goes on from here")
        raise


def _token_for(source: Source) -> dict[str, str]:
    """A hub's token of this terminal, which the daemon may have been started without."""
    from runner.hubs.credentials import token_for

    token = token_for(source)
    return {"bearer-token": token} if token else {}


def push_model(name: str, model_id: str = "") -> str:
    """The manifest digest that the registry now has. `model_id` says which model it shall be,
    whatever has the name by now. Raises KeyboardInterrupt once it has said what that means."""
    from runner.cli.agreement import agree
    from runner.cli.background import running_client
    from runner.cli.output import note
    from runner.cli.progress import show
    from runner.registry.reference import Source

    store = this_store()
    path = model_path(store, name, "push")
    client = running_client()
    agree(client, store, Source.REGISTRY)
    try:
        done = show(client.job(path, {"id": model_id}))
    except KeyboardInterrupt:
        note(f"stopped; nothing was published; `runner push {name}` sends it again")
        raise
    note(str(done["message"]))
    return str(done["digest"])


def show_removal(
    removed: Sequence[Mapping[str, str]], defaults: Defaults, *, as_json: bool
) -> None:
    """Names are spelled as `ls` prints them."""
    from runner.cli.output import show_json
    from runner.registry.reference import short_of

    shown = [
        {what: short_of(name, defaults) if what == "Untagged" else name}
        for entry in removed
        for what, name in entry.items()
    ]
    if as_json:
        show_json(shown)
        return
    for entry in shown:
        for what, name in entry.items():
            print(f"{what}: {name}")

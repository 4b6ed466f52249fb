"""What a process has around it for work on models: its store, its logins, its hubs.

The daemon and a command each have their own; where they differ, a command's words would mean
something else to the daemon. Everything here is a path or an address, nothing is a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from runner.hubs.endpoints import ENDPOINT_NAMES, endpoint_of
from runner.registry.authfiles import docker_file, named_podman_file
from runner.registry.reference import Source

if TYPE_CHECKING:
    from runner.settings import Settings
    from runner.store.store import ModelStore

STORE = "RUNNER_MODELS_PATH"

Surroundings = Mapping[str, str]
"""By the variable that moves each; empty for what is not set."""


def around_store(store: ModelStore) -> Surroundings:
    """The store's folder, the same however a path to it is written."""
    return {STORE: str(store.root.resolve())}


def around_logins() -> Surroundings:
    """Where the logins for registries are looked for."""
    named = named_podman_file()
    return {
        "DOCKER_CONFIG": str(docker_file().parent.resolve()),
        "REGISTRY_AUTH_FILE": str(named.resolve()) if named else "",
    }


def around_hub(source: Source, settings: Settings) -> Surroundings:
    """Where a hub is asked."""
    return {ENDPOINT_NAMES[source]: endpoint_of(source, settings)}


def all_around(store: ModelStore, settings: Settings) -> Surroundings:
    """What a daemon tells of itself."""
    found = {**around_store(store), **around_logins()}
    for source in ENDPOINT_NAMES:
        found |= around_hub(source, settings)
    return found

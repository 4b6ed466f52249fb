"""An instance's identity and folders as labels of its container, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runner.engines.base import Mode
from runner.launch.base import Folders, Identity

PREFIX = "io.runner."
HOME = f"{PREFIX}home"
"""Tells runners on one Docker host apart: each adopts only what carries its own home's value."""
INSTANCE = f"{PREFIX}instance"


@dataclass(frozen=True, slots=True)
class Labelled:
    """What a container's labels say about the instance in it."""

    identity: Identity
    folders: Folders


def to_labels(home_id: str, identity: Identity, folders: Folders) -> dict[str, str]:
    return {
        HOME: home_id,
        INSTANCE: identity.instance,
        f"{PREFIX}engine": identity.engine,
        f"{PREFIX}variant": identity.variant,
        f"{PREFIX}version": identity.version,
        f"{PREFIX}model": identity.model,
        f"{PREFIX}reference": identity.reference,
        f"{PREFIX}mode": identity.mode.value,
        f"{PREFIX}configuration": identity.configuration,
        f"{PREFIX}context": str(identity.context_size),
        f"{PREFIX}folder.model": str(folders.model),
        f"{PREFIX}folder.run": str(folders.run),
        f"{PREFIX}folder.cache": str(folders.cache),
    }


def from_labels(labels: Mapping[str, str]) -> Labelled | None:
    """None where labels are missing or unreadable, as another version might have written them."""
    try:
        identity = Identity(
            instance=labels[INSTANCE],
            engine=labels[f"{PREFIX}engine"],
            variant=labels[f"{PREFIX}variant"],
            version=labels[f"{PREFIX}version"],
            model=labels[f"{PREFIX}model"],
            reference=labels[f"{PREFIX}reference"],
            mode=Mode(labels[f"{PREFIX}mode"]),
            configuration=labels[f"{PREFIX}configuration"],
            context_size=int(labels[f"{PREFIX}context"]),
        )
        folders = Folders(
            model=Path(labels[f"{PREFIX}folder.model"]),
            run=Path(labels[f"{PREFIX}folder.run"]),
            cache=Path(labels[f"{PREFIX}folder.cache"]),
        )
    except (KeyError, ValueError):
        return None
    return Labelled(identity, folders)

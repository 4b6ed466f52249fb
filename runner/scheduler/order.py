"""An order: which instance a request needs, decided down to every option, before any start."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from runner.engines.candidate import Candidate
from runner.engines.environment import Fate
from runner.engines.option_values import options_json
from runner.engines.options import Options
from runner.hardware.gpu import Gpu
from runner.launch.base import LauncherKind
from runner.models.traits import ModelTraits
from runner.scheduler.core import Key
from runner.store.stored import StoredModel


@dataclass(frozen=True, slots=True)
class Settled:
    """What was set for an instance, in its engine's terms. `environment` is what the user and the
    engine's rules make of it, `fates` what became of each of the user's variables, `messages`
    what else a user should know."""

    options: Options = field(default_factory=Options)
    flags: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    fates: tuple[Fate, ...] = ()
    messages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Order:
    """An instance that a request needs. `reference` is the model's name as it was asked for,
    `kv_bytes` what the context takes, None where that can't be told. `others` are models that go
    with it: a draft model, adapters."""

    key: Key
    candidate: Candidate
    model: StoredModel
    reference: str
    traits: ModelTraits
    context_size: int
    kv_bytes: int | None
    settled: Settled
    gpus: tuple[Gpu, ...] = ()
    draft: StoredModel | None = None
    adapters: tuple[StoredModel, ...] = ()

    @property
    def launcher(self) -> LauncherKind:
        if self.candidate.runs_itself:
            return LauncherKind.CODE
        return LauncherKind.DOCKER if self.candidate.in_container else LauncherKind.PROCESS


def program_digest(candidate: Candidate) -> str:
    """What an engine compiled is good for this very program alone."""
    if candidate.install is not None:
        return candidate.install.config_digest
    return hashlib.sha256(f"{candidate.name} {candidate.version}".encode()).hexdigest()


def configuration(
    candidate: Candidate, context: int, settled: Settled, gpus: tuple[Gpu, ...], *others: str
) -> str:
    """A short hash of all that an instance is started with beside its model."""
    facts: Mapping[str, object] = {
        "program": program_digest(candidate),
        "context_size": context,
        "options": options_json(settled.options),
        "flags": settled.flags,
        "environment": dict(settled.environment),
        "gpus": [gpu.uuid or gpu.index for gpu in gpus],
        "others": others,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]

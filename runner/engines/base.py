"""What an engine is: the facts it states and the pure step from a plan to a command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Protocol

from runner.artifacts.media import ModelFormat


class Mode(StrEnum):
    """What an instance is started for."""

    COMPLETION = "completion"
    EMBEDDING = "embedding"
    RERANKING = "reranking"


@dataclass(frozen=True, slots=True)
class UnixEndpoint:
    """An HTTP server on a Unix socket."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class TcpEndpoint:
    """An HTTP server on a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"http://{self.host}:{self.port}"


Endpoint = UnixEndpoint | TcpEndpoint


@dataclass(frozen=True, slots=True)
class Plan:
    """One instance as the engine shall see it; every path is a path inside the engine's world.

    `context_size` is in tokens. `names` are the model names that the engine answers to, the
    first one being the name it reports. `flags` are a user's own, passed through last.
    """

    model_file: PurePosixPath
    listen: Endpoint
    context_size: int
    names: Sequence[str]
    mode: Mode = Mode.COMPLETION
    chat_template: PurePosixPath | None = None
    flags: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """Arguments after the program's own name, and the environment they need."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


class Engine(Protocol):
    """An inference server program, known by facts and pure functions only."""

    @property
    def name(self) -> str: ...

    @property
    def formats(self) -> frozenset[ModelFormat]: ...

    @property
    def modes(self) -> frozenset[Mode]: ...

    @property
    def health_path(self) -> str:
        """Answers 200 once the model is loaded."""
        ...

    @property
    def own_flags(self) -> frozenset[str]:
        """Flags that the runner sets itself: a user's would break what it relies on."""
        ...

    def command(self, plan: Plan) -> Command: ...

    def hint(self, log: Sequence[str]) -> str:
        """The next step for a person, read from an engine's last log lines; "" where unknown."""
        ...

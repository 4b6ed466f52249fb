"""What a launcher promises: start, stop and find instances, wherever they run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from runner.engines.base import Command, Endpoint, Mode, Plan, TcpEndpoint
from runner.launch.devices import NO_DEVICES, Devices


class LauncherKind(StrEnum):
    DOCKER = "docker"
    PROCESS = "process"
    CODE = "code"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who an instance is: kept in a container's labels, so that a later daemon knows it again.

    `instance` is unique on this host and safe in file and container names. `model` is the
    manifest digest, `reference` the name it was asked for by. `variant` is such as `cpu`.
    `configuration` is a short hash of everything else the instance was started with.
    """

    instance: str
    engine: str
    variant: str
    version: str
    model: str
    reference: str
    mode: Mode
    configuration: str
    context_size: int


@dataclass(frozen=True, slots=True)
class Folders:
    """An instance's folders on this host. The launcher makes `run` and `cache`.

    `model` holds the model's files (read by the engine, never written), `run` the engine's
    socket, `cache` what an engine compiles for itself (kernels, graphs, shaders). `others` are
    folders and files that are read too: a draft model, adapters, a chat template.
    """

    model: Path
    run: Path
    cache: Path
    others: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class View:
    """The same as the engine sees it: folders, and where it shall listen."""

    model: str
    cache: str
    listen: Endpoint
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """Everything a launcher needs to start one instance.

    `program` is an image (docker: an image ID) or an executable with its first arguments
    (process). `memory_bytes` is the limit for weights, KV cache and working memory together; what
    may lie in a /dev/shm that was asked for comes on top. `listen` is where the command has the
    engine listen, as the launcher's `view` told it; None for that of an engine that can use a Unix
    socket. `shm_size` is what the engine itself needs of /dev/shm, in bytes, 0 for Docker's own
    64 MiB. `locks_memory`: it keeps the model from being swapped out. `plan` is what the command
    was made from, for engines that are started by code.
    """

    identity: Identity
    program: Sequence[str]
    command: Command
    folders: Folders
    memory_bytes: int
    listen: Endpoint | None = None
    devices: Devices = NO_DEVICES
    shm_size: int = 0
    locks_memory: bool = False
    plan: Plan | None = None

    @property
    def uses_tcp(self) -> bool:
        return isinstance(self.listen, TcpEndpoint)


@dataclass(frozen=True, slots=True)
class Running:
    """An instance that was started earlier and found again."""

    identity: Identity
    endpoint: Endpoint
    folders: Folders


@dataclass(frozen=True, slots=True)
class Exit:
    """How an instance ended. `code` is the exit status, negative for a signal."""

    code: int
    out_of_memory: bool = False


class LogLines(Iterator[str], Protocol):
    """Log lines; `close` may be called from any thread and ends them, also for one that waits."""

    def close(self) -> None: ...


class _NoLines:
    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        raise StopIteration

    def close(self) -> None:
        return


NO_LINES = _NoLines()
"""Of an instance that is gone."""


class Launcher(Protocol):
    """Blocking calls; the daemon makes them in threads. All raise RunnerError."""

    @property
    def kind(self) -> LauncherKind: ...

    @property
    def survives_daemon(self) -> bool:
        """Whether instances go on when the daemon ends, to be found by `find` later."""
        ...

    def view(self, folders: Folders, *, tcp: bool = False) -> View:
        """`tcp` is for an engine that can't listen on a Unix socket."""
        ...

    def start(self, spec: InstanceSpec) -> Endpoint:
        """Starts it and says where this host reaches it; on failure nothing is left behind."""
        ...

    def shown(self, spec: InstanceSpec) -> Sequence[str]:
        """The command that would start the same by hand, for people's eyes."""
        ...

    def wait(self, instance: str) -> Exit:
        """Returns when the instance has ended. An instance that is gone counts as ended."""
        ...

    def stop(self, instance: str, *, grace_s: float) -> None:
        """Asks it to end, forces it after `grace_s`, and removes what it left."""
        ...

    def find(self) -> Sequence[Running]:
        """Instances of this runner's home that are running; ended ones are removed."""
        ...

    def logs(self, instance: str, *, tail: int) -> Sequence[str]:
        """The last lines, oldest first; none where the instance is gone."""
        ...

    def follow(self, instance: str, *, tail: int) -> LogLines:
        """Log lines as they come, until the instance ends or the lines are closed."""
        ...

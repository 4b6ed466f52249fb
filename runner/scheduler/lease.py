"""What the gateway asks of the scheduler: an instance that is ready, held while a request runs."""

from __future__ import annotations

from typing import Protocol

from runner.engines.base import Endpoint, Mode
from runner.errors import RunnerError


class Lease(Protocol):
    """One request's hold on one ready instance. `release` may be called more than once."""

    @property
    def endpoint(self) -> Endpoint: ...

    @property
    def engine(self) -> str: ...

    @property
    def fallback(self) -> str:
        """Where it answers in place of another engine: for whom and why, in one line; else ""."""
        ...

    def release(self) -> None: ...

    async def failure(self) -> RunnerError:
        """Why the engine stopped answering, with its last log lines; waits briefly for its end."""
        ...


class Instances(Protocol):
    """Model names come as the client wrote them; `engine` is as a path names it, canonically
    (`vllm`, `vllm:cuda`), None for any."""

    def refuse_unknown(self, engine: str) -> None:
        """Raises EngineNotFound with the nearest name; no I/O. Which engines there are stays the
        same as long as the daemon runs."""
        ...

    def ready(self, engine: str | None, model: str, mode: Mode) -> Lease | None:
        """A lease at once where such an instance is ready; the hot path, no await, no I/O."""
        ...

    async def acquire(self, engine: str | None, model: str, mode: Mode) -> Lease:
        """Loads the model where needed. Cancelling takes only this waiter away, never the load.

        Raises RunnerError: unknown model, no engine fits, the engine died while loading, …
        """
        ...

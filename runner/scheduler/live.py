"""A live instance as the loop sees it: its parts, its end, and a request's hold on it."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from runner.engines.base import Endpoint, Engine
from runner.engines.loghints import cause_in
from runner.errors import LOG_TAIL, EngineFailed, EngineStartTimeout, RunnerError
from runner.launch.base import Exit, Identity, Launcher, LauncherKind
from runner.scheduler.core import Key, Phase
from runner.scheduler.order import Order
from runner.scheduler.succession import StandIn, one_line

FAILURE_WAIT_S = 3.0
"""How long a request whose connection broke waits to learn how its engine ended."""


@dataclass(frozen=True, slots=True)
class InstanceStatus:
    """One instance as `ps` shows it. Times are seconds since the epoch; `stands_in` is for whom
    it answers."""

    identity: Identity
    phase: Phase
    users: int
    launcher: LauncherKind
    started_at: float
    last_used: float
    stands_in: StandIn | None = None

    @property
    def label(self) -> str:
        return label(self.identity)


@dataclass(slots=True, eq=False)
class Live:
    """`launched` is set once the launcher's start has returned or failed, `ended` at the end."""

    identity: Identity
    engine: Engine
    launcher: Launcher
    endpoint: Endpoint | None = None
    started_at: float = field(default_factory=time.time)
    last_used: float = field(default_factory=time.time)
    launched: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    error: RunnerError | None = None
    stands_in: StandIn | None = None

    @property
    def name(self) -> str:
        return self.identity.instance

    @property
    def key(self) -> Key:
        about = self.identity
        return Key(about.engine, about.variant, about.model, about.mode, about.configuration)

    def superseded_by(self, order: Order) -> bool:
        """Whether it serves the same model, but by an image or settings that no request asks for
        any more. What another name of the model was configured with goes on."""
        return replace(self.key, configuration=order.key.configuration) == order.key and (
            self.identity.reference == order.reference
            or self.identity.version != order.candidate.version
        )

    def status(self, phase: Phase, users: int) -> InstanceStatus:
        return InstanceStatus(
            self.identity,
            phase,
            users,
            self.launcher.kind,
            self.started_at,
            self.last_used,
            self.stands_in,
        )

    async def failure(self) -> RunnerError:
        """Why a connection to it broke."""
        try:
            async with asyncio.timeout(FAILURE_WAIT_S):
                await self.ended.wait()
        except TimeoutError:
            return EngineFailed(
                f"{self.engine.description.name} closed the connection without an answer",
                hint=f"see `runner logs {self.identity.reference}`",
            )
        return self.error or EngineFailed(f"{self.engine.description.name} was stopped")

    def too_slow(self, given_s: float) -> EngineStartTimeout:
        return EngineStartTimeout(
            f"{self.identity.engine} did not get ready within {given_s:.0f} s",
            hint="raise `load_timeout` in the settings, or see `runner logs`",
        )

    def death(self, ended: Exit, lines: Sequence[str]) -> EngineFailed:
        """An end that nobody asked for, with the engine's last words and the next step."""
        name, last = self.engine.description.name, lines[-LOG_TAIL:]
        if ended.out_of_memory:
            hint = f"set backends.{name}.context_size to a smaller number"
            return EngineFailed(f"{name} ran out of memory", hint=hint, log=last)
        if ended.code == -signal.SIGKILL:
            hint = (
                f"mostly for want of memory: set backends.{name}.context_size to a smaller number"
            )
            return EngineFailed(f"{name} was killed", hint=hint, log=last)
        hint = self.engine.hint(last) or self._cause(lines)
        return EngineFailed(f"{name} ended with status {ended.code}", hint=hint, log=last)

    def _cause(self, lines: Sequence[str]) -> str:
        """Only where it names its error further up: most of what it says there is no fault."""
        if not lines:
            return "see `runner logs`"
        cause = cause_in(lines)
        if not cause:
            return "its last lines say why"
        return self.engine.hint((cause,)) or f"it said: {one_line(cause)}"


def label(identity: Identity) -> str:
    """Its variant as candidates are labelled."""
    return f"{identity.engine}/{identity.variant}"


class Held:
    """A lease: one user of one instance, until released."""

    __slots__ = ("_live", "_release", "endpoint", "engine", "fallback")

    def __init__(
        self,
        live: Live,
        endpoint: Endpoint,
        release: Callable[[Live], None],
        stands_in: StandIn | None = None,
    ) -> None:
        self._live = live
        self._release: Callable[[Live], None] | None = release
        self.endpoint = endpoint
        self.engine = live.identity.engine
        self.fallback = stands_in.told(label(live.identity)) if stands_in is not None else ""

    def release(self) -> None:
        release, self._release = self._release, None
        if release is not None:
            release(self._live)

    async def failure(self) -> RunnerError:
        return await self._live.failure()

"""The loop that owns the scheduler: feeds it events and carries its effects out."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import shlex
import time
from collections.abc import Coroutine, Iterable, Mapping

from runner.engines.base import Endpoint, Mode
from runner.engines.registered import ENGINES
from runner.errors import (
    EngineFailed,
    EngineStartTimeout,
    InternalError,
    NotFound,
    RunnerError,
)
from runner.launch.base import Exit, Identity, Launcher, LauncherKind, Running
from runner.scheduler import ends
from runner.scheduler.core import (
    Effect,
    Grant,
    Key,
    Phase,
    Refuse,
    Scheduler,
    Start,
    Stop,
)
from runner.scheduler.lease import Lease
from runner.scheduler.live import Held, InstanceStatus, Live
from runner.scheduler.planning import Order, Planner
from runner.scheduler.readiness import is_healthy, until_healthy
from runner.scheduler.routes import Routes

log = logging.getLogger(__name__)


class InstanceLoop:
    """Starts, hands out and stops instances; every method belongs to the daemon's event loop."""

    def __init__(
        self, planner: Planner, launchers: Mapping[LauncherKind, Launcher], *, load_timeout: float
    ) -> None:
        self._planner = planner
        self._launchers = launchers
        self._load_timeout = load_timeout
        self._scheduler = Scheduler(lambda: secrets.token_hex(6))
        self._live: dict[str, Live] = {}
        self._orders: dict[Key, Order] = {}
        self._routes = Routes(planner.stamp)
        self._waiters: dict[int, asyncio.Future[Lease]] = {}
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()

    # Requests

    def ready(self, engine: str | None, model: str, mode: Mode) -> Lease | None:
        instance = self._routes.instance((engine, model, mode))
        live = self._live.get(instance) if instance is not None else None
        if live is None or live.endpoint is None or not self._scheduler.take(live.name):
            return None
        return Held(live, live.endpoint, self._release)

    async def acquire(self, engine: str | None, model: str, mode: Mode) -> Lease:
        stamp = self._planner.stamp()
        order = await asyncio.to_thread(self._planner.order, engine, model, mode)
        waiter, future = next(self._numbers), asyncio.get_running_loop().create_future()
        self._waiters[waiter] = future
        self._orders[order.key] = order
        self._carry_out(self._scheduler.requested(waiter, order.key))
        try:
            lease: Lease = await future
        except asyncio.CancelledError:
            self._leave(waiter, future)
            raise
        finally:
            self._waiters.pop(waiter, None)
        instance = self._scheduler.instance_of(order.key)
        if instance is not None:
            self._routes.remember((engine, model, mode), instance, stamp)
        return lease

    def _release(self, live: Live) -> None:
        live.last_used = time.time()
        self._carry_out(self._scheduler.released(live.name))

    # Control

    def statuses(self) -> list[InstanceStatus]:
        return [
            live.status(phase, self._scheduler.users(name))
            for name, live in self._live.items()
            if (phase := self._scheduler.phase(name)) is not None
        ]

    def launcher_of(self, instance: str) -> Launcher:
        """Raises NotFound."""
        live = self._live.get(instance)
        if live is None:
            raise NotFound(f"no instance {instance}", hint="see `runner ps`")
        return live.launcher

    async def adopt(self) -> int:
        """Takes over what an earlier daemon of this home left running; how many."""
        adopted, all_seen = 0, True
        for kind, launcher in self._launchers.items():
            try:
                found = await asyncio.to_thread(launcher.find)
            except RunnerError as error:
                log.info("nothing to adopt by %s: %s", kind, error.message)
                all_seen = False
                continue
            for running in found:
                adopted += await self._adopt(launcher, running)
        await asyncio.to_thread(self._planner.forget_strays, set(self._live), all_seen=all_seen)
        return adopted

    async def unload(self, instances: Iterable[str], *, drain_timeout: float) -> int:
        """Stops these once their users are done, at the latest after the drain; how many."""
        leaving = [self._live[name] for name in instances if name in self._live]
        for live in leaving:
            self._carry_out(self._scheduler.unload(live.name))
        await self._ended(leaving, drain_timeout)
        for live in leaving:
            self._carry_out(self._scheduler.force(live.name))
        await self._ended(leaving, ends.STOP_GRACE_S * 3)
        return sum(live.ended.is_set() for live in leaving)

    def refuse_new(self) -> None:
        """The first step of a shutdown."""
        self._carry_out(self._scheduler.closing())

    async def close(self, *, leave_running: bool, drain_timeout: float) -> None:
        """Stops all instances, or only those that could not outlive the daemon."""
        self.refuse_new()
        stopping = [
            name
            for name, live in self._live.items()
            if not (
                leave_running
                and live.launcher.survives_daemon
                and self._scheduler.phase(name) is Phase.READY
            )
        ]
        await self.unload(stopping, drain_timeout=drain_timeout)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Effects

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Start(instance, key):
                    self._start(instance, self._orders[key])
                case Stop(instance):
                    self._spawn(self._stop(self._live[instance]))
                case Grant(waiter, instance):
                    self._grant(waiter, instance)
                case Refuse(waiter, error):
                    self._refuse(waiter, error)

    def _start(self, instance: str, order: Order) -> None:
        launcher = self._launchers[order.launcher]
        live = Live(self._planner.identity(order, instance), order.choice.engine, launcher)
        for other in self._superseded(order.key):
            self._carry_out(self._scheduler.unload(other))
        self._live[instance] = live
        self._spawn(self._load(live, order))

    def _superseded(self, key: Key) -> list[str]:
        """Of the same model, but by an image or settings that no request asks for any more."""
        return [
            name
            for name, live in self._live.items()
            if _purpose(_key_of(live.identity)) == _purpose(key)
        ]

    async def _load(self, live: Live, order: Order) -> None:
        name = live.name
        log.info("loading %s with %s as %s", order.reference, order.key.engine, name)
        try:
            async with asyncio.timeout(self._load_timeout):
                await self._bring_up(live, order)
        except TimeoutError:
            await self._give_up(live, self._too_slow(live))
        except RunnerError as error:
            await self._give_up(live, error)
        except Exception:
            # The top of a task: whoever waits must hear of it, whatever it was.
            log.exception("%s did not load", name)
            await self._give_up(live, InternalError())
        else:
            live.last_used = time.time()
            log.info("%s is ready after %.1f s", name, time.time() - live.started_at)
            self._carry_out(self._scheduler.ready(name))

    async def _bring_up(self, live: Live, order: Order) -> None:
        """Starts it and waits for its health path or its end, whichever comes first."""
        name = live.name
        live.endpoint = await asyncio.shield(self._launch(live, order))
        if self._scheduler.phase(name) is not Phase.LOADING:
            raise EngineFailed(f"{order.reference} was unloaded while it was loading")
        self._watch(live)
        healthy = asyncio.ensure_future(until_healthy(live.endpoint, live.engine.health_path))
        ended = asyncio.ensure_future(live.ended.wait())
        try:
            await asyncio.wait({healthy, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            healthy.cancel()
            ended.cancel()
        if live.ended.is_set():
            raise live.error or EngineFailed(f"{live.identity.engine} ended while loading")

    async def _launch(self, live: Live, order: Order) -> Endpoint:
        """Never cut short: what a launcher is still starting can't be stopped."""
        try:
            spec = await asyncio.to_thread(self._planner.spec, order, live.name, live.launcher)
            log.debug("%s: %s", live.name, shlex.join((*spec.program, *spec.command.arguments)))
            return await asyncio.to_thread(live.launcher.start, spec)
        finally:
            live.launched.set()

    async def _give_up(self, live: Live, error: RunnerError) -> None:
        """A load that failed: whatever it left is removed, then its waiters hear why."""
        name = live.name
        log.warning("%s did not load: %s", name, error.message)
        if not live.ended.is_set():
            live.error = error
            await live.launched.wait()
            await self._stop_quietly(live)
        self._gone(live, error)

    def _too_slow(self, live: Live) -> RunnerError:
        return EngineStartTimeout(
            f"{live.identity.engine} did not get ready within {self._load_timeout:.0f} s",
            hint="raise `load_timeout` in the settings, or see `runner logs`",
        )

    async def _stop(self, live: Live) -> None:
        await live.launched.wait()
        await ends.stop(live, self._planner.forget)
        self._gone(live, EngineFailed(f"{live.identity.engine} was stopped"))

    async def _stop_quietly(self, live: Live) -> None:
        """Nobody is kept waiting where Docker does not answer just now."""
        if not await ends.try_to_stop(live, self._planner.forget):
            self._spawn(ends.stop(live, self._planner.forget))

    def _grant(self, waiter: int, instance: str) -> None:
        """Over a rendezvous: a waiter that has left gives its place back at once."""
        future, live = self._waiters.get(waiter), self._live[instance]
        assert live.endpoint is not None
        lease = Held(live, live.endpoint, self._release)
        if future is None or future.done():
            lease.release()
        else:
            future.set_result(lease)

    def _refuse(self, waiter: int, error: RunnerError) -> None:
        future = self._waiters.get(waiter)
        if future is not None and not future.done():
            future.set_exception(error)

    # The end of an instance

    def _watch(self, live: Live) -> None:
        loop = asyncio.get_running_loop()

        def tell(ended: Exit) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(lambda: self._spawn(self._exited(live, ended)))

        ends.watch(live, tell)

    async def _exited(self, live: Live, ended: Exit) -> None:
        """An end that nobody asked for; a wanted one is `_stop`'s to tell."""
        name = live.name
        if live.ended.is_set() or self._scheduler.phase(name) in {None, Phase.STOPPING}:
            return
        lines = await ends.last_lines(live)
        error = live.death(ended, lines)
        log.warning("%s ended: %s", name, error.message)
        loading = self._scheduler.phase(name) is Phase.LOADING
        live.error = error
        await self._stop_quietly(live)
        if loading:
            live.ended.set()
        else:
            self._gone(live, error)

    def _gone(self, live: Live, error: RunnerError) -> None:
        name = live.name
        live.error = live.error or error
        live.ended.set()
        self._live.pop(name, None)
        self._routes.forget(name)
        self._carry_out(self._scheduler.exited(name, live.error))

    async def _ended(self, leaving: list[Live], deadline_s: float) -> None:
        waits = [asyncio.ensure_future(live.ended.wait()) for live in leaving]
        if waits:
            _, late = await asyncio.wait(waits, timeout=deadline_s)
            for wait in late:
                wait.cancel()

    # Odds

    async def _adopt(self, launcher: Launcher, running: Running) -> int:
        identity = running.identity
        engine = ENGINES.get(identity.engine)
        if engine is None or not await is_healthy(running.endpoint, engine.health_path):
            log.warning("%s does not answer: stopped", identity.instance)
            await asyncio.to_thread(launcher.stop, identity.instance, grace_s=ends.STOP_GRACE_S)
            return 0
        live = Live(identity, engine, launcher, running.endpoint)
        live.launched.set()
        self._live[identity.instance] = live
        self._watch(live)
        self._carry_out(self._scheduler.adopted(identity.instance, _key_of(identity)))
        log.info("adopted %s (%s)", identity.instance, identity.reference)
        return 1

    def _leave(self, waiter: int, future: asyncio.Future[Lease]) -> None:
        self._carry_out(self._scheduler.cancelled(waiter))
        if future.done() and not future.cancelled() and future.exception() is None:
            future.result().release()

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a task failed", exc_info=task.exception())


def _key_of(identity: Identity) -> Key:
    return Key(
        identity.engine,
        identity.variant,
        identity.model,
        identity.mode,
        identity.configuration,
    )


def _purpose(key: Key) -> tuple[str, str, str, Mode]:
    return key.engine, key.variant, key.model, key.mode

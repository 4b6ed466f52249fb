"""The loop that owns the scheduler: feeds it events and carries its effects out."""

from __future__ import annotations

import asyncio
import logging
import secrets
import shlex
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence

from runner.engines.base import Endpoint, Mode
from runner.errors import (
    EngineFailed,
    InternalError,
    NotFound,
    RunnerError,
    Unavailable,
)
from runner.launch.base import Exit, Launcher, LauncherKind, Running
from runner.names import target
from runner.scheduler import ends
from runner.scheduler.core import (
    Effect,
    Grant,
    Key,
    Phase,
    Refuse,
    Replan,
    Scheduler,
    Start,
    Stop,
)
from runner.scheduler.lease import Lease
from runner.scheduler.live import Held, InstanceStatus, Live
from runner.scheduler.misfortunes import Misfortunes, is_misfortune
from runner.scheduler.order import Order
from runner.scheduler.planning import Planner
from runner.scheduler.readiness import is_healthy, until_healthy
from runner.scheduler.routes import Goal, Route, Routes, Stamp
from runner.scheduler.succession import StandIn, Succession, succession
from runner.scheduler.waiters import Waiter, Waiters

log = logging.getLogger(__name__)

PLANS = 3
"""How often a request is planned, where what it waits for is configured anew again and again."""


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
        self._misfortunes = Misfortunes()
        self._waiters = Waiters()
        self._tasks: set[asyncio.Task[None]] = set()

    # Requests

    def refuse_unknown(self, engine: str) -> None:
        asked = target(engine)
        if asked.engine:
            self._planner.engines.named(asked.engine)

    def ready(self, engine: str | None, model: str, mode: Mode) -> Lease | None:
        goal = self._routes.goal((engine, model, mode))
        live = self._live.get(goal.instance) if goal is not None else None
        if live is None or live.endpoint is None or not self._scheduler.take(live.name):
            return None
        return Held(live, live.endpoint, self._release, goal.stands_in if goal else None)

    async def acquire(self, engine: str | None, model: str, mode: Mode) -> Lease:
        for left in reversed(range(PLANS)):
            lease = await self._planned((engine, model, mode), last=not left)
            if lease is not None:
                return lease
        raise Unavailable(
            f"{model} was configured anew again and again while it was loading",
            hint="send the request again",
        )

    async def _planned(self, route: Route, *, last: bool) -> Lease | None:
        """None where it may be decided otherwise by now; the last plan is begun all the same."""
        stamp = self._planner.stamp()
        line = self.succession(await asyncio.to_thread(self._planner.orders, *route))
        failures: dict[Key, RunnerError] = {}
        for order, following in zip(line.turns, (*line.turns[1:], None), strict=True):
            if stamp != self._planner.stamp() and not last:
                return None
            stands_in = line.stands_in(order, failures)
            try:
                lease = await self._acquired(order, stamp, stands_in)
            except RunnerError as error:
                if following is None or not is_misfortune(error):
                    raise
                log.warning("%s; %s takes over", error.message, following.candidate.label)
                failures[order.key] = error
                continue
            instance = self._scheduler.instance_of(order.key)
            if instance is not None:
                self._routes.remember(route, Goal(instance, stands_in), stamp)
            if order is line.first and route[0] is None and lease is not None:
                self._serves_itself(line)
            return lease
        raise AssertionError("the last order is granted or refused")

    def succession(self, orders: Sequence[Order]) -> Succession:
        """In which turn a request would try them now: those that keep ending go last."""
        now = asyncio.get_running_loop().time()
        return succession(orders, lambda key: self._misfortunes.trouble(key, now))

    def _serves_itself(self, line: Succession) -> None:
        """Nobody stands in any more for a first choice that answers again."""
        for order in line.turns:
            live = self._live.get(self._scheduler.instance_of(order.key) or "")
            if live is not None:
                live.stands_in = None

    async def _acquired(
        self, order: Order, stamp: Stamp, stands_in: StandIn | None
    ) -> Lease | None:
        waiter = self._waiters.join(stamp, stands_in)
        self._orders[order.key] = order
        self._carry_out(self._scheduler.requested(waiter.number, order.key))
        live = self._live.get(self._scheduler.instance_of(order.key) or "")
        if live is not None and stands_in is not None:
            live.stands_in = stands_in
        try:
            return await waiter.answer
        except asyncio.CancelledError:
            self._leave(waiter)
            raise
        finally:
            self._waiters.leave(waiter)

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

    def forgive(self, model: str) -> bool:
        """Gives every engine of a model another chance; whether one was in need of it."""
        return self._misfortunes.forget(model)

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
            self._misfortunes.forget(live.identity.model)
            self._carry_out(self._scheduler.unload(live.name))
        await ends.all_of(leaving, drain_timeout)
        for live in leaving:
            self._carry_out(self._scheduler.force(live.name))
        await ends.all_of(leaving, ends.STOP_GRACE_S * 3)
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
                    self._waiters.refuse(waiter, error)
                case Replan(waiter):
                    self._waiters.answer(waiter, None)

    def _start(self, instance: str, order: Order) -> None:
        launcher = self._launchers[order.launcher]
        live = Live(self._planner.identity(order, instance), order.candidate.engine, launcher)
        for other in [one for one in self._live.values() if one.superseded_by(order)]:
            self._carry_out(self._scheduler.superseded(other.name))
        self._live[instance] = live
        self._spawn(self._load(live, order))

    async def _load(self, live: Live, order: Order) -> None:
        name = live.name
        log.info("loading %s with %s as %s", order.reference, order.key.engine, name)
        try:
            async with asyncio.timeout(self._load_timeout):
                await self._bring_up(live, order)
        except TimeoutError:
            await self._give_up(live, live.too_slow(self._load_timeout))
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
        healthy = asyncio.ensure_future(
            until_healthy(live.endpoint, live.engine.description.health_path)
        )
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
        if self._scheduler.phase(name) is Phase.LOADING and is_misfortune(error):
            self._note(live, error)
        if not live.ended.is_set():
            live.error = error
            await live.launched.wait()
            await self._stop_quietly(live)
        self._gone(live, error)

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
        live = self._live[instance]
        assert live.endpoint is not None
        stands_in = self._waiters.stands_in(waiter)
        live.stands_in = stands_in or live.stands_in
        lease = Held(live, live.endpoint, self._release, stands_in)
        if not self._waiters.answer(waiter, lease):
            lease.release()

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
        error = await asyncio.to_thread(live.death, ended, lines)  # a plug-in's hint may hang
        if live.ended.is_set():
            return
        log.warning("%s ended: %s", name, error.message)
        live.error = error
        await self._stop_quietly(live)
        if self._scheduler.phase(name) is Phase.LOADING:
            live.ended.set()  # the load gives up
        else:
            self._note(live, error)
            self._gone(live, error)

    def _note(self, live: Live, error: RunnerError) -> None:
        self._misfortunes.note(live.key, asyncio.get_running_loop().time(), error)

    def _gone(self, live: Live, error: RunnerError) -> None:
        name = live.name
        live.error = live.error or error
        live.ended.set()
        self._live.pop(name, None)
        self._routes.forget(name)
        outdated = self._waiters.outdated(self._planner.stamp())
        self._carry_out(self._scheduler.exited(name, live.error, outdated))
        if self._scheduler.instance_of(live.key) is None:
            self._orders.pop(live.key, None)

    # Odds

    async def _adopt(self, launcher: Launcher, running: Running) -> int:
        identity = running.identity
        engine = self._planner.engines.get(identity.engine)
        if engine is None or not await is_healthy(running.endpoint, engine.description.health_path):
            await ends.stop_stray(launcher, identity)
            return 0
        live = Live(identity, engine, launcher, running.endpoint)
        live.launched.set()
        self._live[identity.instance] = live
        self._watch(live)
        self._carry_out(self._scheduler.adopted(identity.instance, live.key))
        log.info("adopted %s (%s)", identity.instance, identity.reference)
        return 1

    def _leave(self, waiter: Waiter) -> None:
        self._carry_out(self._scheduler.cancelled(waiter.number))
        answer = waiter.answer
        if answer.done() and not answer.cancelled() and answer.exception() is None:
            lease = answer.result()
            if lease is not None:
                lease.release()

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a task failed", exc_info=task.exception())

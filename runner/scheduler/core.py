"""The scheduler: events in, effects out. No clock, no await, no I/O; one loop owns it.

An instance is loading, ready or stopping. A request for a key joins the instance that has it,
whatever its phase: it is granted at once, when the load is done, or after the stop and a new load.
The load belongs to the instance: a waiter that leaves never stops it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from runner.engines.base import Mode
from runner.errors import RunnerError, ShuttingDown


@dataclass(frozen=True, slots=True)
class Key:
    """What makes two requests share an instance."""

    engine: str
    variant: str
    model: str
    mode: Mode
    configuration: str


class Phase(StrEnum):
    LOADING = "loading"
    READY = "ready"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Start:
    instance: str
    key: Key


@dataclass(frozen=True, slots=True)
class Stop:
    """End the instance now: nobody uses it any more, or the drain took too long."""

    instance: str


@dataclass(frozen=True, slots=True)
class Grant:
    """The waiter may use the instance; it is already counted as a user."""

    waiter: int
    instance: str


@dataclass(frozen=True, slots=True)
class Refuse:
    waiter: int
    error: RunnerError


@dataclass(frozen=True, slots=True)
class Replan:
    """What the waiter waits for may be decided otherwise by now: it asks again."""

    waiter: int


Effect = Start | Stop | Grant | Refuse | Replan


@dataclass(slots=True)
class _Instance:
    name: str
    key: Key
    phase: Phase
    users: int = 0
    waiters: list[int] = field(default_factory=list)
    stop_sent: bool = False


class Scheduler:
    """`new_name` makes instance names; each must be new."""

    def __init__(self, new_name: Callable[[], str]) -> None:
        self._new_name = new_name
        self._instances: dict[str, _Instance] = {}
        self._by_key: dict[Key, _Instance] = {}
        self._shutting_down = False

    def phase(self, instance: str) -> Phase | None:
        held = self._instances.get(instance)
        return held.phase if held else None

    def users(self, instance: str) -> int:
        held = self._instances.get(instance)
        return held.users if held else 0

    def instance_of(self, key: Key) -> str | None:
        held = self._by_key.get(key)
        return held.name if held else None

    def requested(self, waiter: int, key: Key) -> list[Effect]:
        if self._shutting_down:
            return [Refuse(waiter, _shutting_down())]
        held = self._by_key.get(key)
        if held is None:
            held = self._new(key)
            held.waiters.append(waiter)
            return [Start(held.name, key)]
        if held.phase is Phase.READY:
            held.users += 1
            return [Grant(waiter, held.name)]
        held.waiters.append(waiter)
        return []

    def take(self, instance: str) -> bool:
        """The hot path: one more user, at once, where the instance is ready."""
        held = self._instances.get(instance)
        if held is None or held.phase is not Phase.READY:
            return False
        held.users += 1
        return True

    def released(self, instance: str) -> list[Effect]:
        """A user is done. Instances that are gone already are fine."""
        held = self._instances.get(instance)
        if held is None:
            return []
        held.users -= 1
        return list(self._stop_when_unused(held))

    def cancelled(self, waiter: int) -> list[Effect]:
        for held in self._instances.values():
            if waiter in held.waiters:
                held.waiters.remove(waiter)
        return []

    def adopted(self, instance: str, key: Key) -> list[Effect]:
        """An instance that an earlier daemon left running; a second one of a key is stopped."""
        held = _Instance(instance, key, Phase.READY)
        self._instances[instance] = held
        if key in self._by_key:
            held.phase = Phase.STOPPING
            return list(self._stop_when_unused(held))
        self._by_key[key] = held
        return []

    def ready(self, instance: str) -> list[Effect]:
        held = self._instances.get(instance)
        if held is None or held.phase is not Phase.LOADING:
            return []
        held.phase = Phase.READY
        waiters, held.waiters = held.waiters, []
        held.users += len(waiters)
        return [Grant(waiter, instance) for waiter in waiters]

    def exited(
        self, instance: str, error: RunnerError, outdated: Collection[int] = ()
    ) -> list[Effect]:
        """An instance ended, or never came to life. Waiters of a wanted stop start it anew, but
        for the `outdated`: they might start what nobody wants any more."""
        held = self._instances.pop(instance, None)
        if held is None:
            return []
        if self._by_key.get(held.key) is held:
            del self._by_key[held.key]
        if held.phase is not Phase.STOPPING or self._shutting_down:
            refusal = _shutting_down() if self._shutting_down else error
            return [Refuse(waiter, refusal) for waiter in held.waiters]
        effects: list[Effect] = []
        for waiter in held.waiters:
            if waiter in outdated:
                effects.append(Replan(waiter))
            else:
                effects += self.requested(waiter, held.key)
        return effects

    def unload(self, instance: str) -> list[Effect]:
        """Stops it once its users are done. A load under way is given up, its waiters refused."""
        return self._end(instance, lambda waiter: Refuse(waiter, _unloaded()))

    def superseded(self, instance: str) -> list[Effect]:
        """The same for one that no request asks for any more: its waiters ask again."""
        return self._end(instance, Replan)

    def force(self, instance: str) -> list[Effect]:
        """The drain took too long: stop although somebody uses it."""
        held = self._instances.get(instance)
        if held is None or held.phase is not Phase.STOPPING or held.stop_sent:
            return []
        held.stop_sent = True
        return [Stop(instance)]

    def closing(self) -> list[Effect]:
        """No new request is taken from now on; the waiting ones are refused."""
        self._shutting_down = True
        effects: list[Effect] = []
        for held in self._instances.values():
            effects += [Refuse(waiter, _shutting_down()) for waiter in held.waiters]
            held.waiters = []
        return effects

    def _new(self, key: Key) -> _Instance:
        held = _Instance(self._new_name(), key, Phase.LOADING)
        self._instances[held.name] = held
        self._by_key[key] = held
        return held

    def _end(self, instance: str, answer: Callable[[int], Effect]) -> list[Effect]:
        held = self._instances.get(instance)
        if held is None or held.phase is Phase.STOPPING:
            return []
        waiting = held.waiters if held.phase is Phase.LOADING else []
        held.waiters = []
        held.phase = Phase.STOPPING
        return [*(answer(waiter) for waiter in waiting), *self._stop_when_unused(held)]

    def _stop_when_unused(self, held: _Instance) -> Iterator[Effect]:
        if held.phase is Phase.STOPPING and held.users <= 0 and not held.stop_sent:
            held.stop_sent = True
            yield Stop(held.name)


def _shutting_down() -> ShuttingDown:
    return ShuttingDown("the runner is shutting down", hint="try again when it is back")


def _unloaded() -> ShuttingDown:
    return ShuttingDown(
        "the model was unloaded while it was loading", hint="send the request again"
    )

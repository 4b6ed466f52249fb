"""The scheduler's decisions: events in, effects out."""

from __future__ import annotations

import itertools

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from runner.engines.base import Mode
from runner.errors import EngineFailed, ShuttingDown
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

DIED = EngineFailed("it died")


def _key(model: str = "m") -> Key:
    return Key("llama.cpp", "cpu", model, Mode.COMPLETION, "c")


def _scheduler() -> Scheduler:
    names = (f"i{number}" for number in itertools.count(1))
    return Scheduler(lambda: next(names))


def test_the_first_request_starts_an_instance_and_waits() -> None:
    assert _scheduler().requested(1, _key()) == [Start("i1", _key())]


def test_two_requests_for_one_cold_model_load_it_once() -> None:
    scheduler = _scheduler()
    scheduler.requested(1, _key())
    assert scheduler.requested(2, _key()) == []
    assert scheduler.ready("i1") == [Grant(1, "i1"), Grant(2, "i1")]
    assert scheduler.users("i1") == 2


def test_models_load_side_by_side() -> None:
    scheduler = _scheduler()
    scheduler.requested(1, _key("a"))
    assert scheduler.requested(2, _key("b")) == [Start("i2", _key("b"))]


def test_a_ready_instance_is_granted_at_once() -> None:
    scheduler = _scheduler()
    scheduler.requested(1, _key())
    scheduler.ready("i1")
    assert scheduler.requested(2, _key()) == [Grant(2, "i1")]
    assert scheduler.take("i1")
    assert scheduler.users("i1") == 3


def test_a_failed_load_is_told_to_all_who_wait_and_tried_again_by_the_next() -> None:
    scheduler = _scheduler()
    scheduler.requested(1, _key())
    scheduler.requested(2, _key())
    assert scheduler.exited("i1", DIED) == [Refuse(1, DIED), Refuse(2, DIED)]
    assert scheduler.requested(3, _key()) == [Start("i2", _key())]


def test_a_load_goes_on_when_its_waiters_leave() -> None:
    scheduler = _scheduler()
    scheduler.requested(1, _key())
    assert scheduler.cancelled(1) == []
    assert scheduler.ready("i1") == []
    assert scheduler.take("i1")


def test_unload_waits_for_users() -> None:
    scheduler = _scheduler()
    scheduler.requested(1, _key())
    scheduler.ready("i1")
    assert scheduler.unload("i1") == []
    assert not scheduler.take("i1")
    assert scheduler.released("i1") == [Stop("i1")]


def test_an_idle_instance_is_stopped_at_once_and_only_once() -> None:
    scheduler = _scheduler()
    scheduler.requested(1, _key())
    scheduler.ready("i1")
    scheduler.released("i1")
    assert scheduler.unload("i1") == [Stop("i1")]
    assert scheduler.unload("i1") == []
    assert scheduler.force("i1") == []


def test_a_drain_that_takes_too_long_is_forced() -> None:
    scheduler = _scheduler()
    scheduler.requested(1, _key())
    scheduler.ready("i1")
    scheduler.unload("i1")
    assert scheduler.force("i1") == [Stop("i1")]
    assert scheduler.released("i1") == []


def test_a_request_during_an_unload_loads_anew_afterwards() -> None:
    scheduler = _scheduler()
    scheduler.requested(1, _key())
    scheduler.ready("i1")
    scheduler.unload("i1")
    assert scheduler.requested(2, _key()) == []
    scheduler.released("i1")
    assert scheduler.exited("i1", DIED) == [Start("i2", _key())]
    assert scheduler.ready("i2") == [Grant(2, "i2")]


def test_unloading_a_load_refuses_its_waiters_and_ignores_a_late_ready() -> None:
    scheduler = _scheduler()
    scheduler.requested(1, _key())
    refuse, stop = scheduler.unload("i1")
    assert isinstance(refuse, Refuse)
    assert stop == Stop("i1")
    assert scheduler.ready("i1") == []


def test_an_adopted_instance_serves() -> None:
    scheduler = _scheduler()
    assert scheduler.adopted("old", _key()) == []
    assert scheduler.requested(1, _key()) == [Grant(1, "old")]


def test_of_two_adopted_twins_one_is_stopped() -> None:
    scheduler = _scheduler()
    scheduler.adopted("old", _key())
    assert scheduler.adopted("older", _key()) == [Stop("older")]


def test_closing_refuses_the_waiting_and_the_new() -> None:
    scheduler = _scheduler()
    scheduler.requested(1, _key())
    (refuse,) = scheduler.closing()
    assert isinstance(refuse, Refuse)
    assert isinstance(refuse.error, ShuttingDown)
    (refuse,) = scheduler.requested(2, _key())
    assert isinstance(refuse, Refuse)


def test_after_a_stop_those_with_an_outdated_plan_ask_again() -> None:
    """The others share one new instance."""
    scheduler = _scheduler()
    scheduler.requested(1, _key())
    scheduler.ready("i1")
    scheduler.unload("i1")
    for waiter in (2, 3, 4):
        assert scheduler.requested(waiter, _key()) == []
    scheduler.released("i1")
    effects = scheduler.exited("i1", DIED, {2, 4})
    assert effects == [Replan(2), Start("i2", _key()), Replan(4)]
    assert scheduler.ready("i2") == [Grant(3, "i2")]


def test_where_all_plans_are_outdated_nothing_is_started() -> None:
    scheduler = _scheduler()
    scheduler.requested(1, _key())
    scheduler.ready("i1")
    scheduler.unload("i1")
    scheduler.requested(2, _key())
    assert scheduler.exited("i1", DIED, {1, 2, 3}) == [Replan(2)]
    assert scheduler.instance_of(_key()) is None


def test_an_end_that_nobody_asked_for_is_told_whatever_the_plan() -> None:
    scheduler = _scheduler()
    scheduler.requested(1, _key())
    assert scheduler.exited("i1", DIED, {1}) == [Refuse(1, DIED)]


def test_who_waits_for_what_is_superseded_asks_again() -> None:
    scheduler = _scheduler()
    scheduler.requested(1, _key())
    assert scheduler.superseded("i1") == [Replan(1), Stop("i1")]
    assert scheduler.superseded("i1") == []


class _AnyOrder(RuleBasedStateMachine):
    """Whatever the order of events: each waiter gets one answer, each instance one stop."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = _scheduler()
        self.numbers = itertools.count(1)
        self.waiting: set[int] = set()
        self.live: dict[str, Key] = {}
        self.held: list[str] = []
        self.stopped: set[str] = set()

    def _apply(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Start(instance, key):
                    assert key not in [
                        known
                        for name, known in self.live.items()
                        if self.scheduler.phase(name) is not Phase.STOPPING and name != instance
                    ]
                    self.live[instance] = key
                case Stop(instance):
                    assert instance not in self.stopped
                    self.stopped.add(instance)
                case Grant(waiter, instance):
                    self.waiting.remove(waiter)
                    assert self.scheduler.phase(instance) is Phase.READY
                    self.held.append(instance)
                case Refuse(waiter, _) | Replan(waiter):
                    self.waiting.remove(waiter)

    @rule(model=st.sampled_from("abc"))
    def request(self, model: str) -> None:
        waiter = next(self.numbers)
        self.waiting.add(waiter)
        self._apply(self.scheduler.requested(waiter, _key(model)))

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.waiting:
            waiter = data.draw(st.sampled_from(sorted(self.waiting)))
            self.waiting.remove(waiter)
            self._apply(self.scheduler.cancelled(waiter))

    @rule(data=st.data())
    def ready(self, data: st.DataObject) -> None:
        if self.live:
            name = data.draw(st.sampled_from(sorted(self.live)))
            self._apply(self.scheduler.ready(name))

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        if self.held:
            name = data.draw(st.sampled_from(sorted(self.held)))
            self.held.remove(name)
            self._apply(self.scheduler.released(name))

    @rule(data=st.data(), how=st.sampled_from(["unload", "supersede", "force", "exit"]))
    def end(self, data: st.DataObject, how: str) -> None:
        if not self.live:
            return
        name = data.draw(st.sampled_from(sorted(self.live)))
        if how == "unload":
            self._apply(self.scheduler.unload(name))
        elif how == "supersede":
            self._apply(self.scheduler.superseded(name))
        elif how == "force":
            self._apply(self.scheduler.force(name))
        else:
            del self.live[name]
            self.held = [held for held in self.held if held != name]
            outdated = data.draw(st.sets(st.sampled_from(sorted(self.waiting) or [0])))
            self._apply(self.scheduler.exited(name, DIED, outdated))

    @invariant()
    def users_are_counted_exactly(self) -> None:
        for name in self.live:
            assert self.scheduler.users(name) == self.held.count(name)


TestAnyOrder = _AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)

"""The loop that owns instances: loads, drains, deaths, adoption and the end."""

from __future__ import annotations

import asyncio
import functools
import gc
import shutil
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from runner.engines.base import Mode
from runner.engines.llamacpp import LlamaCpp
from runner.errors import (
    BadInput,
    Conflict,
    DockerUnavailable,
    EngineFailed,
    EngineNotFound,
    EngineStartTimeout,
    NotFound,
    RunnerError,
    ShuttingDown,
    Unavailable,
    Unsupported,
)
from runner.launch.base import Exit, Identity, LauncherKind
from runner.scheduler.core import Phase
from runner.scheduler.lease import Lease
from runner.scheduler.loop import PLANS, InstanceLoop
from runner.scheduler.misfortunes import TIMES
from runner.scheduler.order import Order
from runner.scheduler.planning import Planner
from runner.scheduler.succession import StandIn, Why
from runner.state import ChoiceKind
from tests.engines.stage import MLX
from tests.scheduler.house import (
    FOLDER,
    MODEL,
    SHIPPED,
    backend,
    configure,
    install,
    order,
    package_demo,
    package_folder,
    planner,
)
from tests.scheduler.launcher import DEADLINE_S, ThreadLauncher

TURNS = 20

Scenario = Callable[["Stage"], Coroutine[object, object, None]]


class Stage:
    """A planner with one model, and a loop with one launcher of each kind."""

    def __init__(self, root: Path) -> None:
        made = planner(root / "home", [*SHIPPED, MLX])
        self.planner = backend(made, "llama.cpp", binary=Path(__file__))
        package_demo(self.planner)
        self.process = ThreadLauncher(root)
        self.docker = ThreadLauncher(root, LauncherKind.DOCKER, survives_daemon=True)
        self.loop = self.loop_with(DEADLINE_S)

    def loop_with(self, load_timeout: float) -> InstanceLoop:
        launchers = {LauncherKind.PROCESS: self.process, LauncherKind.DOCKER: self.docker}
        return InstanceLoop(self.planner, launchers, load_timeout=load_timeout)

    async def acquire(self, model: str = MODEL, engine: str | None = None) -> Lease:
        return await self.loop.acquire(engine, model, Mode.COMPLETION)

    def ready(self, model: str = MODEL, engine: str | None = None) -> Lease | None:
        return self.loop.ready(engine, model, Mode.COMPLETION)

    def identity(self, instance: str) -> Identity:
        return self.planner.identity(order(self.planner), instance)

    def with_fallback(self) -> None:
        """A model that vLLM serves in a container, and MLX LM should that fail."""
        package_folder(self.planner)
        install(self.planner, "vllm/cpu")
        install(self.planner, "mlx-lm/cpu", image="/opt/python")
        self.planner.state.choose(ChoiceKind.FALLBACK, "safetensors", "mlx-lm")

    @property
    def phases(self) -> list[Phase]:
        return [status.phase for status in self.loop.statuses()]

    @property
    def name(self) -> str:
        (status,) = self.loop.statuses()
        return status.identity.instance


@pytest.fixture
def stage(session_folder: Path) -> Iterator[Stage]:
    root = Path(tempfile.mkdtemp(dir=session_folder))
    made = Stage(root)
    yield made
    made.process.close()
    made.docker.close()
    shutil.rmtree(root)


def scenario(test: Scenario) -> Callable[[Stage], None]:
    """Runs it in an event loop of its own, with a deadline."""

    @functools.wraps(test)
    def run(stage: Stage) -> None:
        async def play() -> None:
            try:
                async with asyncio.timeout(DEADLINE_S):
                    await test(stage)
            finally:
                stage.process.may_start.set()
                stage.docker.may_start.set()

        asyncio.run(play())

    return run


async def _set(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, DEADLINE_S)


async def _turns() -> None:
    """Gives whatever could run now, in the loop and in threads, the chance to."""
    for _ in range(TURNS):
        await asyncio.to_thread(lambda: None)


@scenario
async def test_a_ready_instance_is_handed_out_at_once(stage: Stage) -> None:
    assert stage.ready() is None
    first = await stage.acquire()
    second = stage.ready()
    assert second is not None
    assert second.endpoint == first.endpoint == stage.process.engines[stage.name].endpoint
    assert [status.users for status in stage.loop.statuses()] == [2]
    first.release()
    first.release()
    assert [status.users for status in stage.loop.statuses()] == [1]


@scenario
async def test_unknown_engines_are_refused_with_the_nearest(stage: Stage) -> None:
    for known in ("vllm", "llama.cpp:cuda12", "any:rocm", "vllm:nothing"):
        stage.loop.refuse_unknown(known)
    for unknown in ("vlm", "vlm:cuda"):
        with pytest.raises(EngineNotFound) as caught:
            stage.loop.refuse_unknown(unknown)
        assert caught.value.hint == "did you mean vllm?"


@scenario
async def test_an_engine_that_never_gets_healthy_is_given_up(stage: Stage) -> None:
    stage.process.status = 503
    stage.loop = stage.loop_with(0.3)
    with pytest.raises(EngineStartTimeout, match="did not get ready"):
        await stage.acquire()
    ((name, _),) = stage.process.engines.items()
    assert stage.process.what_happened_to(name) == ["started", "stopped"]
    assert stage.process.running == []
    assert stage.phases == []


@scenario
async def test_a_start_that_takes_too_long_leaves_nothing_running(stage: Stage) -> None:
    stage.process.may_start.clear()
    stage.loop = stage.loop_with(0.05)
    asking = asyncio.create_task(stage.acquire())
    await _set(stage.process.starting)
    await asyncio.wait({asking}, timeout=0.3)
    stage.process.may_start.set()
    with pytest.raises(EngineStartTimeout):
        await asking
    ((name, _),) = stage.process.engines.items()
    assert stage.process.what_happened_to(name) == ["started", "stopped"]
    assert stage.process.running == []


@scenario
async def test_an_unload_waits_until_the_last_user_is_done(stage: Stage) -> None:
    lease, name = await stage.acquire(), stage.name
    unloading = asyncio.create_task(stage.loop.unload([name], drain_timeout=DEADLINE_S))
    await _turns()
    assert stage.phases == [Phase.STOPPING]
    assert stage.ready() is None
    assert stage.process.what_happened_to(name) == ["started"]
    lease.release()
    assert await unloading == 1
    assert stage.process.what_happened_to(name) == ["started", "stopped"]
    assert stage.phases == []


@scenario
async def test_an_unload_stops_a_used_instance_after_the_drain(stage: Stage) -> None:
    lease = await stage.acquire()
    assert await stage.loop.unload([stage.name], drain_timeout=0.05) == 1
    assert stage.process.running == []
    assert stage.phases == []
    lease.release()
    assert "stopped" in (await lease.failure()).message


@scenario
async def test_a_request_during_an_unload_gets_a_new_instance(stage: Stage) -> None:
    lease, name = await stage.acquire(), stage.name
    unloading = asyncio.create_task(stage.loop.unload([name], drain_timeout=DEADLINE_S))
    asking = asyncio.create_task(stage.acquire())
    await _turns()
    assert not asking.done()
    lease.release()
    await unloading
    assert (await asking).endpoint == stage.process.engines[stage.name].endpoint
    assert stage.process.running == [stage.name] != [name]


@scenario
async def test_a_waiter_that_leaves_does_not_end_the_load(stage: Stage) -> None:
    stage.process.may_start.clear()
    leaving, staying = (asyncio.create_task(stage.acquire()) for _ in range(2))
    await _set(stage.process.starting)
    await _turns()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    stage.process.may_start.set()
    await staying
    assert [status.users for status in stage.loop.statuses()] == [1]
    assert stage.process.happened == [("started", stage.name)]


@scenario
async def test_the_load_goes_on_when_its_only_waiter_leaves(stage: Stage) -> None:
    stage.process.may_start.clear()
    leaving = asyncio.create_task(stage.acquire())
    await _set(stage.process.starting)
    name = stage.name
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    stage.process.may_start.set()
    await stage.acquire()
    assert stage.process.happened == [("started", name)]
    assert [status.users for status in stage.loop.statuses()] == [1]


@pytest.mark.parametrize(
    ("failure", "told"),
    [(EngineFailed("no such program"), "no such program"), (RuntimeError("odd"), "went wrong")],
    ids=["foreseen", "unforeseen"],
)
def test_a_failed_start_is_told_to_everybody_who_waits(
    stage: Stage, failure: Exception, told: str
) -> None:
    @scenario
    async def play(stage: Stage) -> None:
        stage.process.failure = failure
        stage.process.may_start.clear()
        asking = [asyncio.create_task(stage.acquire()) for _ in range(2)]
        await _set(stage.process.starting)
        await _turns()
        stage.process.may_start.set()
        for error in await asyncio.gather(*asking, return_exceptions=True):
            assert isinstance(error, RunnerError)
            assert told in error.message
        assert stage.phases == []
        stage.process.failure = None
        assert (await stage.acquire()).endpoint

    play(stage)


@scenario
async def test_an_unload_during_a_start_leaves_nothing_running(stage: Stage) -> None:
    stage.process.may_start.clear()
    asking = asyncio.create_task(stage.acquire())
    await _set(stage.process.starting)
    name = stage.name
    unloading = asyncio.create_task(stage.loop.unload([name], drain_timeout=DEADLINE_S))
    with pytest.raises(ShuttingDown, match="unloaded while it was loading"):
        await asking
    await _turns()
    assert stage.process.happened == []
    stage.process.may_start.set()
    assert await unloading == 1
    assert stage.process.what_happened_to(name)[:2] == ["started", "stopped"]
    assert stage.process.running == []
    assert stage.phases == []


@scenario
async def test_a_healthy_engine_of_an_earlier_daemon_serves(stage: Stage) -> None:
    stage.process.left_running(stage.identity("found"))
    assert await stage.loop.adopt() == 1
    lease = await stage.acquire()
    assert lease.endpoint == stage.process.engines["found"].endpoint
    assert stage.process.happened == []


@scenario
async def test_an_adopted_engine_that_ends_is_noticed(stage: Stage) -> None:
    stage.process.left_running(stage.identity("found"))
    await stage.loop.adopt()
    lease = await stage.acquire()
    stage.process.engines["found"].end(Exit(1))
    error = await lease.failure()
    assert "ended with status 1" in error.message
    assert "runner logs" in error.hint, "it left no last words"
    assert stage.phases == []


@scenario
async def test_an_engine_of_an_earlier_daemon_that_is_not_well_is_stopped(stage: Stage) -> None:
    stage.process.status = 500
    stage.process.left_running(stage.identity("found"))
    assert await stage.loop.adopt() == 0
    assert stage.process.what_happened_to("found") == ["stopped"]
    assert stage.phases == []
    stage.process.status = 200
    await stage.acquire()
    assert stage.name != "found"


@scenario
async def test_an_engine_of_an_earlier_daemon_of_an_unknown_kind_is_stopped(stage: Stage) -> None:
    stage.process.left_running(replace(stage.identity("found"), engine="another"))
    assert await stage.loop.adopt() == 0
    assert stage.process.what_happened_to("found") == ["stopped"]


@scenario
async def test_what_can_not_be_stopped_does_not_keep_the_others_from_being_adopted(
    stage: Stage,
) -> None:
    def fails(instance: str, *, grace_s: float) -> None:
        raise EngineFailed("Docker does not answer")

    stage.process.left_running(replace(stage.identity("stray"), engine="another"))
    stage.process.left_running(stage.identity("found"))
    stop, stage.process.stop = stage.process.stop, fails  # type: ignore[method-assign]
    assert await stage.loop.adopt() == 1
    stage.process.stop = stop  # type: ignore[method-assign]
    assert stage.name == "found"


@scenario
async def test_a_cause_that_was_told_long_before_the_end_is_found(stage: Stage) -> None:
    cause = "(EngineCore pid=7) ERROR ValueError: block size 77 is no multiple of 16"
    end = "RuntimeError: Engine core initialization failed. See root cause above."
    stage.process.lines = (cause, *(f"frame {number}" for number in range(100)), end)
    lease, dead = await stage.acquire(), stage.name
    stage.process.engines[dead].end(Exit(1))
    error = await lease.failure()
    assert isinstance(error, EngineFailed)
    assert error.hint == "it said: ValueError: block size 77 is no multiple of 16"
    assert error.log == (*(f"frame {number}" for number in range(81, 100)), end)
    lease.release()


@scenario
async def test_a_death_is_told_with_the_last_words_and_the_next_request_loads_anew(
    stage: Stage,
) -> None:
    stage.process.lines = ("first words", "last words")
    lease, dead = await stage.acquire(), stage.name
    stage.process.engines[dead].end(Exit(-6))
    error = await lease.failure()
    assert isinstance(error, EngineFailed)
    assert "ended with status -6" in error.message
    assert error.log == ("first words", "last words")
    assert error.hint == "its last lines say why", "the last words say more"
    lease.release()
    assert stage.phases == []
    assert stage.ready() is None
    with pytest.raises(NotFound):
        stage.loop.launcher_of(dead)
    assert stage.process.what_happened_to(dead) == ["started", "stopped"]
    await stage.acquire()
    assert stage.process.running == [stage.name] != [dead]


@pytest.mark.parametrize(
    ("how", "told"),
    [(Exit(-9, out_of_memory=True), "ran out of memory"), (Exit(-9), "was killed")],
    ids=["out of memory", "killed"],
)
def test_a_death_by_lack_of_memory_says_what_to_set(stage: Stage, how: Exit, told: str) -> None:
    @scenario
    async def play(stage: Stage) -> None:
        lease = await stage.acquire()
        stage.process.engines[stage.name].end(how)
        error = await lease.failure()
        assert told in error.message
        assert "backends.llama.cpp.context_size" in error.hint

    play(stage)


def test_a_hint_that_takes_its_time_holds_nobody_up(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, may_answer = threading.Event(), threading.Event()

    def slow(_: LlamaCpp, log: Sequence[str]) -> str:
        asked.set()
        return "the loop went on" if may_answer.wait(DEADLINE_S / 2) else "the loop stood still"

    monkeypatch.setattr(LlamaCpp, "hint", slow)

    @scenario
    async def play(stage: Stage) -> None:
        lease = await stage.acquire()
        stage.process.engines[stage.name].end(Exit(-6))
        await _set(asked)
        may_answer.set()
        error = await lease.failure()
        assert isinstance(error, EngineFailed)
        assert error.hint == "the loop went on"

    play(stage)


@scenario
async def test_a_death_while_loading_is_told_at_once(stage: Stage) -> None:
    stage.process.status = 503
    stage.process.lines = ("error: unknown argument: --odd",)
    stage.process.may_start.clear()
    asking = asyncio.create_task(stage.acquire())
    await _set(stage.process.starting)
    name = stage.name
    stage.process.may_start.set()
    while name not in stage.process.engines:
        await _turns()
    stage.process.engines[name].end(Exit(1))
    with pytest.raises(EngineFailed, match="ended with status 1") as caught:
        await asking
    assert caught.value.log == ("error: unknown argument: --odd",)
    assert "does not know the flag --odd" in caught.value.hint
    assert stage.phases == []


@pytest.mark.parametrize("leave_running", [True, False])
def test_only_what_outlives_the_daemon_is_left_running(stage: Stage, leave_running: bool) -> None:
    @scenario
    async def play(stage: Stage) -> None:
        (await stage.acquire()).release()
        install(stage.planner, "llama.cpp/cpu")
        (await stage.acquire()).release()
        assert len(stage.process.running) == len(stage.docker.running) == 1
        await stage.loop.close(leave_running=leave_running, drain_timeout=DEADLINE_S)
        assert stage.process.running == []
        assert len(stage.docker.running) == leave_running
        with pytest.raises(ShuttingDown):
            await stage.acquire()

    play(stage)


@scenario
async def test_a_load_under_way_is_not_left_running(stage: Stage) -> None:
    install(stage.planner, "llama.cpp/cpu")
    stage.docker.status = 503
    asking = asyncio.create_task(stage.acquire())
    while not stage.docker.running:
        await _turns()
    closing = asyncio.create_task(stage.loop.close(leave_running=True, drain_timeout=DEADLINE_S))
    with pytest.raises(ShuttingDown):
        await asking
    await closing
    assert stage.docker.running == []


# A change of what was configured


@scenario
async def test_what_is_configured_anew_is_started_anew(stage: Stage) -> None:
    """The old instance goes once its users are done; a request never waits for that."""
    lease, old = await stage.acquire(), stage.name
    configure(stage.planner, MODEL, options={"threads": 1})
    assert stage.ready() is None
    other = await stage.acquire()
    assert other.endpoint != lease.endpoint
    assert sorted(stage.phases) == [Phase.READY, Phase.STOPPING]
    assert stage.process.what_happened_to(old) == ["started"]
    lease.release()
    while len(stage.phases) > 1:
        await _turns()
    assert stage.process.what_happened_to(old) == ["started", "stopped"]
    again = stage.ready()
    assert again is not None
    assert again.endpoint == other.endpoint


async def _start_with(stage: Stage, threads: int) -> asyncio.Task[Lease]:
    """A request under a new configuration, whose instance has begun to start."""
    configure(stage.planner, MODEL, options={"threads": threads})
    stage.process.starting.clear()
    asking = asyncio.create_task(stage.acquire())
    await _set(stage.process.starting)
    await _turns()
    return asking


@scenario
async def test_who_waits_for_what_is_configured_anew_gets_the_new_one(stage: Stage) -> None:
    stage.process.may_start.clear()
    first = await _start_with(stage, 1)
    old = stage.name
    second = await _start_with(stage, 2)
    stage.process.may_start.set()
    leases = await asyncio.gather(first, second)
    while len(stage.phases) > 1:
        await _turns()
    assert {lease.endpoint for lease in leases} == {stage.process.engines[stage.name].endpoint}
    assert [status.users for status in stage.loop.statuses()] == [2]
    assert stage.process.running == [stage.name] != [old]


@scenario
async def test_who_waits_for_a_stop_gets_what_is_configured_by_then(stage: Stage) -> None:
    """And what is configured no more is not started once again."""
    lease, old = await stage.acquire(), stage.name
    unloading = asyncio.create_task(stage.loop.unload([old], drain_timeout=DEADLINE_S))
    asking = [asyncio.create_task(stage.acquire()) for _ in range(2)]
    await _turns()
    configure(stage.planner, MODEL, options={"threads": 1})
    lease.release()
    await unloading
    leases = await asyncio.gather(*asking)
    assert len({lease.endpoint for lease in leases}) == 1
    assert sorted(stage.process.engines) == sorted([old, stage.name])
    (status,) = stage.loop.statuses()
    assert status.identity.configuration == order(stage.planner).key.configuration


@scenario
async def test_what_is_configured_during_the_plan_holds(stage: Stage) -> None:
    """And what was read before is never started."""
    planned, may_go_on = threading.Event(), threading.Event()

    class Slow(Planner):
        def orders(self, engine: str | None, model: str, mode: Mode) -> tuple[Order, ...]:
            found = super().orders(engine, model, mode)
            planned.set()
            assert may_go_on.wait(DEADLINE_S)
            return found

    fields = {one: getattr(stage.planner, one) for one in Planner.__slots__}
    stage.planner = Slow(**fields)
    stage.loop = stage.loop_with(DEADLINE_S)
    asking = asyncio.create_task(stage.acquire())
    await _set(planned)
    configure(stage.planner, MODEL, options={"threads": 1})
    may_go_on.set()
    await asking
    (status,) = stage.loop.statuses()
    assert status.identity.configuration == order(stage.planner).key.configuration
    assert list(stage.process.engines) == [stage.name]


@scenario
async def test_who_waits_for_a_stop_is_served_though_something_else_changed(stage: Stage) -> None:
    lease, old = await stage.acquire(), stage.name
    unloading = asyncio.create_task(stage.loop.unload([old], drain_timeout=DEADLINE_S))
    asking = asyncio.create_task(stage.acquire())
    await _turns()
    configure(stage.planner, FOLDER, options={"threads": 1})
    lease.release()
    await unloading
    assert (await asking).endpoint == stage.process.engines[stage.name].endpoint
    assert sorted(stage.process.engines) == sorted([old, stage.name])


@scenario
async def test_what_takes_over_is_what_is_installed_by_then(stage: Stage) -> None:
    stage.with_fallback()
    stage.docker.failure = EngineFailed("no such program")
    stage.docker.may_start.clear()
    asking = asyncio.create_task(stage.acquire(FOLDER))
    await _set(stage.docker.starting)
    newer = "sha256:" + "b" * 64
    install(stage.planner, "mlx-lm/cpu", image="/opt/python", config_digest=newer)
    stage.docker.may_start.set()
    assert (await asking).engine == "mlx-lm"
    (status,) = stage.loop.statuses()
    wanted = order(stage.planner, FOLDER, "mlx-lm").key.configuration
    assert status.identity.configuration == wanted
    assert list(stage.process.engines) == [stage.name]


@scenario
async def test_who_is_planned_anew_again_and_again_is_told_so_in_the_end(stage: Stage) -> None:
    stage.process.may_start.clear()
    asking = [await _start_with(stage, threads) for threads in range(1, PLANS + 2)]
    with pytest.raises(Unavailable, match="configured anew again and again") as caught:
        await asking[0]
    assert not isinstance(caught.value, ShuttingDown)
    assert not any(other.done() for other in asking[1:])
    stage.process.may_start.set()
    assert len({lease.endpoint for lease in await asyncio.gather(*asking[1:])}) == 1


@scenario
async def test_nothing_is_kept_of_what_has_ended(stage: Stage) -> None:
    def orders() -> int:
        gc.collect()
        return sum(isinstance(one, Order) for one in gc.get_objects())

    before = orders()
    for threads in range(1, 4):
        configure(stage.planner, MODEL, options={"threads": threads})
        (await stage.acquire()).release()
    while len(stage.phases) > 1:
        await _turns()
    assert orders() == before + 1
    await stage.loop.unload([stage.name], drain_timeout=DEADLINE_S)
    await _turns()
    assert orders() == before


@scenario
async def test_a_configuration_that_can_not_be_is_told_and_keeps_the_old_one_running(
    stage: Stage,
) -> None:
    (await stage.acquire()).release()
    configure(stage.planner, MODEL, flags=["--host", "0.0.0.0"])
    with pytest.raises(BadInput, match="--host is set by the runner itself"):
        await stage.acquire()
    assert stage.phases == [Phase.READY]
    configure(stage.planner, MODEL, flags=[])
    await stage.acquire()
    assert stage.process.happened == [("started", stage.name)]


# Fallbacks


@pytest.mark.parametrize(
    "failure",
    [
        EngineFailed("no such program"),
        Unsupported("no such device"),
        DockerUnavailable("Docker does not answer"),
        Conflict("the name is taken"),
    ],
)
def test_a_start_that_fails_goes_on_with_the_fallback(stage: Stage, failure: RunnerError) -> None:
    @scenario
    async def play(stage: Stage) -> None:
        stage.with_fallback()
        stage.docker.failure = failure
        lease = await stage.acquire(FOLDER)
        assert lease.engine == "mlx-lm"
        assert [status.identity.engine for status in stage.loop.statuses()] == ["mlx-lm"]
        again = stage.ready(FOLDER)
        assert again is not None, "the route stays with what serves"
        assert again.endpoint == lease.endpoint

    play(stage)


@scenario
async def test_an_engine_that_never_gets_healthy_hands_over_too(stage: Stage) -> None:
    stage.with_fallback()
    stage.docker.status = 503
    stage.loop = stage.loop_with(0.5)
    assert (await stage.acquire(FOLDER)).engine == "mlx-lm"
    assert stage.docker.running == []


def _stand_ins(stage: Stage) -> dict[str, StandIn | None]:
    return {one.label: one.stands_in for one in stage.loop.statuses()}


DID_NOT_START = StandIn("vllm/cpu", Why.DID_NOT_START, "no such program")
TOLD = "vllm/cpu did not start (no such program): mlx-lm/cpu answers"


@scenario
async def test_a_fallback_is_told_by_the_instance_and_each_answer(stage: Stage) -> None:
    stage.with_fallback()
    stage.docker.failure = EngineFailed("no such program")
    stage.process.may_start.clear()
    asking = asyncio.create_task(stage.acquire(FOLDER))
    await _set(stage.process.starting)
    assert _stand_ins(stage) == {"mlx-lm/cpu": DID_NOT_START}, "also while it loads"
    stage.process.may_start.set()
    assert (await asking).fallback == TOLD
    again = stage.ready(FOLDER)
    assert again is not None
    assert again.fallback == TOLD
    assert _stand_ins(stage) == {"mlx-lm/cpu": DID_NOT_START}


@scenario
async def test_a_fallback_that_is_started_once_more_is_told_too(stage: Stage) -> None:
    stage.with_fallback()
    stage.docker.failure = EngineFailed("no such program")
    lease, old = await stage.acquire(FOLDER), stage.name
    stage.docker.starting.clear()
    unloading = asyncio.create_task(stage.loop.unload([old], drain_timeout=DEADLINE_S))
    asking = asyncio.create_task(stage.acquire(FOLDER))
    await _set(stage.docker.starting)
    await _turns()
    lease.release()
    await unloading
    assert (await asking).fallback == TOLD
    assert stage.name != old
    assert _stand_ins(stage) == {"mlx-lm/cpu": DID_NOT_START}


@scenario
async def test_an_engine_that_the_path_names_stands_in_for_nobody(stage: Stage) -> None:
    """Also where it is the very instance that takes over on another path."""
    stage.with_fallback()
    named = await stage.acquire(FOLDER, "mlx-lm")
    assert _stand_ins(stage) == {"mlx-lm/cpu": None}
    stage.docker.failure = EngineFailed("no such program")
    first = await stage.acquire(FOLDER)
    assert first.endpoint == named.endpoint
    assert (named.fallback, first.fallback) == ("", TOLD)
    again = await stage.acquire(FOLDER, "mlx-lm")
    assert again.fallback == ""
    ready = [stage.ready(FOLDER), stage.ready(FOLDER, "mlx-lm")]
    assert [lease.fallback for lease in ready if lease] == [TOLD, ""]
    assert _stand_ins(stage) == {"mlx-lm/cpu": DID_NOT_START}


@scenario
async def test_nobody_stands_in_for_a_first_choice_that_answers_again(stage: Stage) -> None:
    stage.with_fallback()
    stage.docker.failure = EngineFailed("no such program")
    await stage.acquire(FOLDER)
    stage.docker.failure = None
    configure(stage.planner, FOLDER, "vllm", environment={"MINE": "1"})
    assert (await stage.acquire(FOLDER)).fallback == ""
    assert _stand_ins(stage) == {"vllm/cpu": None, "mlx-lm/cpu": None}


@scenario
async def test_a_fallback_that_becomes_the_first_choice_stands_in_no_more(stage: Stage) -> None:
    stage.with_fallback()
    stage.docker.failure = EngineFailed("no such program")
    await stage.acquire(FOLDER)
    stage.planner.state.choose(ChoiceKind.FORMAT, "safetensors", "mlx-lm")
    assert (await stage.acquire(FOLDER)).fallback == ""
    assert _stand_ins(stage) == {"mlx-lm/cpu": None}


async def _is_tried(stage: Stage) -> bool:
    """Whether a request starts the first choice; it is served by the fallback all the same."""
    stage.docker.starting.clear()
    lease = await stage.acquire(FOLDER)
    assert lease.engine == "mlx-lm"
    lease.release()
    return stage.docker.starting.is_set()


@scenario
async def test_what_fails_to_start_again_and_again_is_not_waited_for(stage: Stage) -> None:
    stage.with_fallback()
    stage.docker.failure = DockerUnavailable("Docker does not answer")
    assert [await _is_tried(stage) for _ in range(TIMES + 1)] == [True] * TIMES + [False]
    await stage.loop.unload([stage.name], drain_timeout=DEADLINE_S)
    assert await _is_tried(stage)


@scenario
async def test_a_start_that_times_out_is_waited_for_once(stage: Stage) -> None:
    stage.with_fallback()
    stage.docker.status = 503
    stage.loop = stage.loop_with(0.5)
    assert await _is_tried(stage)
    assert not await _is_tried(stage)


@scenario
async def test_a_death_while_loading_counts_once(stage: Stage) -> None:
    stage.with_fallback()
    stage.docker.status = 503
    for _ in range(TIMES):
        asking = asyncio.create_task(stage.acquire(FOLDER))
        while not stage.docker.running:
            await _turns()
        stage.docker.engines[stage.docker.running[0]].end(Exit(1))
        assert (await asking).engine == "mlx-lm"
    assert not await _is_tried(stage)


@scenario
async def test_a_mistake_of_the_user_at_a_start_is_told_each_time(stage: Stage) -> None:
    stage.with_fallback()
    stage.docker.failure = BadInput("no such file")
    for _ in range(TIMES + 1):
        with pytest.raises(BadInput):
            await stage.acquire(FOLDER)
    assert stage.process.happened == []


@scenario
async def test_where_all_fail_the_last_one_is_told(stage: Stage) -> None:
    stage.with_fallback()
    stage.docker.failure = EngineFailed("no such image")
    stage.process.failure = EngineFailed("no such program")
    with pytest.raises(EngineFailed, match="no such program"):
        await stage.acquire(FOLDER)
    assert stage.phases == []


@pytest.mark.parametrize("engine", ["vllm", "vllm:cpu"])
def test_an_explicit_engine_never_falls_back(stage: Stage, engine: str) -> None:
    @scenario
    async def play(stage: Stage) -> None:
        stage.with_fallback()
        stage.docker.failure = EngineFailed("no such image")
        with pytest.raises(EngineFailed, match="no such image"):
            await stage.acquire(FOLDER, engine)
        assert stage.process.happened == []

    play(stage)


@scenario
async def test_a_fallback_serves_while_the_first_choice_is_used_by_name(stage: Stage) -> None:
    """Each path has a route of its own."""
    stage.with_fallback()
    named = await stage.acquire(FOLDER, "mlx-lm")
    first = await stage.acquire(FOLDER)
    assert (named.engine, first.engine) == ("mlx-lm", "vllm")
    ready = [stage.ready(FOLDER), stage.ready(FOLDER, "mlx-lm")]
    assert [lease.engine for lease in ready if lease] == ["vllm", "mlx-lm"]


@scenario
async def test_a_mistake_of_the_user_is_told_and_not_worked_around(stage: Stage) -> None:
    stage.with_fallback()
    configure(stage.planner, FOLDER, "vllm", flags=["--no-such-flag"])
    with pytest.raises(BadInput, match="--no-such-flag"):
        await stage.acquire(FOLDER)


async def _die(stage: Stage, launcher: ThreadLauncher, model: str) -> None:
    lease = await stage.acquire(model)
    (name,) = launcher.running
    launcher.engines[name].end(Exit(1))
    await lease.failure()
    lease.release()


@scenario
async def test_an_engine_that_keeps_dying_is_passed_over_until_an_unload(stage: Stage) -> None:
    stage.with_fallback()
    for _ in range(TIMES):
        await _die(stage, stage.docker, FOLDER)
    assert len(stage.docker.engines) == TIMES
    lease = await stage.acquire(FOLDER)
    assert lease.engine == "mlx-lm"
    died = "vllm/cpu keeps failing (vllm ended with status 1): mlx-lm/cpu answers"
    assert lease.fallback == died
    assert (await stage.acquire(FOLDER)).fallback == died
    assert len(stage.docker.engines) == TIMES
    assert (await stage.acquire(FOLDER, "vllm")).engine == "vllm", "a path is honoured"
    names = [status.identity.instance for status in stage.loop.statuses()]
    await stage.loop.unload(names, drain_timeout=0)
    assert (await stage.acquire(FOLDER)).engine == "vllm"


@scenario
async def test_an_unload_of_what_took_over_gives_the_first_another_chance(stage: Stage) -> None:
    stage.with_fallback()
    for _ in range(TIMES):
        await _die(stage, stage.docker, FOLDER)
    (await stage.acquire(FOLDER)).release()
    assert await stage.loop.unload([stage.name], drain_timeout=DEADLINE_S) == 1
    assert (await stage.acquire(FOLDER)).engine == "vllm"


@scenario
async def test_another_configuration_has_had_no_misfortune(stage: Stage) -> None:
    stage.with_fallback()
    for _ in range(TIMES):
        await _die(stage, stage.docker, FOLDER)
    configure(stage.planner, FOLDER, "vllm", environment={"MINE": "1"})
    assert (await stage.acquire(FOLDER)).engine == "vllm"


@scenario
async def test_an_engine_without_a_fallback_is_tried_again_however_often_it_died(
    stage: Stage,
) -> None:
    for _ in range(TIMES + 1):
        await _die(stage, stage.process, MODEL)
    assert (await stage.acquire()).engine == "llama.cpp"

"""The loop that owns instances: loads, drains, deaths, adoption and the end."""

from __future__ import annotations

import asyncio
import functools
import shutil
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runner.demo import gguf_path
from runner.engines.base import Mode
from runner.errors import EngineFailed, EngineStartTimeout, NotFound, RunnerError, ShuttingDown
from runner.hardware.host import HostFacts
from runner.home import Home
from runner.launch.base import Exit, Identity, LauncherKind
from runner.registry.reference import parse
from runner.scheduler.core import Phase
from runner.scheduler.lease import Lease
from runner.scheduler.loop import InstanceLoop
from runner.scheduler.planning import Planner
from runner.settings import BackendSettings, Settings
from runner.state import Install, State
from runner.store.store import ModelStore
from tests.models.packaging import package_gguf
from tests.scheduler.launcher import DEADLINE_S, ThreadLauncher

MODEL = "localhost:5000/demo:1"
TURNS = 20
CPU = Install("llama.cpp", "cpu", "b1", "sha256:image", "", "sha256:" + "a" * 64, (), "built", 1, 1)

Scenario = Callable[["Stage"], Coroutine[object, object, None]]


class Stage:
    """A planner with one model, and a loop with one launcher of each kind."""

    def __init__(self, root: Path) -> None:
        self.root = root
        home = Home(root / "home")
        home.prepare()
        self.planner = Planner(
            home=home,
            settings=Settings(backends={"llama.cpp": BackendSettings(binary=Path(__file__))}),
            store=ModelStore(home.store),
            state=State(home.state_file),
            host=HostFacts("Linux", 1024**4),
        )
        package_gguf(self.planner.store, gguf_path(), parse(MODEL))
        self.process = ThreadLauncher(root)
        self.docker = ThreadLauncher(root, LauncherKind.DOCKER, survives_daemon=True)
        self.loop = self.loop_with(DEADLINE_S)

    def loop_with(self, load_timeout: float) -> InstanceLoop:
        launchers = {LauncherKind.PROCESS: self.process, LauncherKind.DOCKER: self.docker}
        return InstanceLoop(self.planner, launchers, load_timeout=load_timeout)

    async def acquire(self) -> Lease:
        return await self.loop.acquire(None, MODEL, Mode.COMPLETION)

    def ready(self) -> Lease | None:
        return self.loop.ready(None, MODEL, Mode.COMPLETION)

    def identity(self, instance: str) -> Identity:
        order = self.planner.order(None, MODEL, Mode.COMPLETION)
        return self.planner.identity(order, instance)

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
    assert "ended with status 1" in (await lease.failure()).message
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
    assert "runner logs" in error.hint
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


@scenario
async def test_a_death_while_loading_is_told_at_once(stage: Stage) -> None:
    stage.process.status = 503
    stage.process.lines = ("error: unknown argument",)
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
    assert caught.value.log == ("error: unknown argument",)
    assert "flags" in caught.value.hint
    assert stage.phases == []


@pytest.mark.parametrize("leave_running", [True, False])
def test_only_what_outlives_the_daemon_is_left_running(stage: Stage, leave_running: bool) -> None:
    @scenario
    async def play(stage: Stage) -> None:
        (await stage.acquire()).release()
        stage.planner.state.record(CPU)
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
    stage.planner.state.record(CPU)
    stage.docker.status = 503
    asking = asyncio.create_task(stage.acquire())
    while not stage.docker.running:
        await _turns()
    closing = asyncio.create_task(stage.loop.close(leave_running=True, drain_timeout=DEADLINE_S))
    with pytest.raises(ShuttingDown):
        await asking
    await closing
    assert stage.docker.running == []

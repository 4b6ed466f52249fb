"""Instances that plug-ins run: their life, and plug-ins that raise, hang, and talk nonsense."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from runner.engines import plugins
from runner.engines.base import Command, Plan, TcpEndpoint, UnixEndpoint
from runner.engines.plugin_checks import checked
from runner.engines.plugins import PluggedEngine
from runner.errors import BadInput, Conflict, EngineFailed
from runner.launch import code
from runner.launch.base import Exit, InstanceSpec
from runner.launch.code import CodeLauncher
from runner.launch.devices import Devices
from tests.launch.conftest import MakeSpec
from tests.support.plugin.serving import Serving

LIMIT_S = 0.3
DEADLINE_S = 20.0


@pytest.fixture
def plugin() -> Iterator[Serving]:
    made = Serving()
    yield made
    for instance in list(made.servers):
        made.end(instance)


@pytest.fixture
def launcher(plugin: Serving) -> CodeLauncher:
    return launcher_of(plugin)


def launcher_of(plugin: object) -> CodeLauncher:
    facts = checked(Serving(), "the plug-in x of y 1", runs_itself=True)
    engine = PluggedEngine("the plug-in x of y 1", facts, plugin)
    return CodeLauncher({"serving": engine}, start_s=LIMIT_S)


@pytest.fixture
def spec(make_spec: MakeSpec) -> InstanceSpec:
    return with_plan(make_spec(""))


def with_plan(spec: InstanceSpec) -> InstanceSpec:
    listen = UnixEndpoint(str(spec.folders.run / "engine.sock"))
    model = PurePosixPath(spec.folders.model)
    return replace(
        spec,
        identity=replace(spec.identity, engine="serving"),
        command=Command(("--x",), {"A": "1", "B": "1"}),
        devices=Devices(environment={"B": "2"}),
        listen=listen,
        plan=Plan(model / "weights", model, listen, 4096, ("m",)),
    )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits that are seconds for people are none here."""
    for name, seconds in (("HEALTH_POLL_S", 0.01), ("ASK_S", LIMIT_S), ("STOP_MARGIN_S", LIMIT_S)):
        monkeypatch.setattr(code, name, seconds)


@pytest.fixture
def hanging() -> Iterator[Callable[..., object]]:
    """A step that does not return before the test is over."""
    over = threading.Event()
    yield lambda *_: over.wait(DEADLINE_S)
    over.set()


def raising(error: BaseException) -> Callable[..., object]:
    def fail(*_: object) -> object:
        raise error

    return fail


def name_of(spec: InstanceSpec) -> str:
    return spec.identity.instance


def in_thread(work: Callable[[], object]) -> tuple[threading.Thread, list[Any]]:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    return thread, results


# As it should be


def test_an_instance_is_started_watched_and_stopped(
    launcher: CodeLauncher, plugin: Serving, spec: InstanceSpec
) -> None:
    name = name_of(spec)
    assert launcher.start(spec) == spec.listen
    work = plugin.works[name]
    assert (work.plan, work.instance, work.memory_bytes) == (spec.plan, name, spec.memory_bytes)
    assert work.command == Command(("--x",), {"A": "1", "B": "2"})
    assert work.run == spec.folders.run
    assert work.run.is_dir()
    assert work.cache.is_dir()
    assert launcher.logs(name, tail=5) == ("serving",)
    assert launcher.stats(name) == {"requests_running": 2.0}
    waiting, ended = in_thread(lambda: launcher.wait(name))
    launcher.stop(name, grace_s=1)
    waiting.join(DEADLINE_S)
    assert ended == [Exit(0)]
    assert plugin.happened == [("started", name), ("stopped", name)]
    assert not spec.folders.run.exists()
    assert spec.folders.cache.exists()


def test_a_log_is_followed_to_the_end(
    launcher: CodeLauncher, plugin: Serving, spec: InstanceSpec
) -> None:
    launcher.start(spec)
    lines = launcher.follow(name_of(spec), tail=5)
    assert next(lines) == "serving"
    with plugin.works[name_of(spec)].log.open("a") as log:
        log.write("more\n")
    assert next(lines) == "more"
    launcher.stop(name_of(spec), grace_s=1)
    assert list(lines) == []


def test_an_end_is_noticed_by_its_health(
    launcher: CodeLauncher, plugin: Serving, spec: InstanceSpec, quick: None
) -> None:
    launcher.start(spec)
    plugin.end(name_of(spec))
    assert launcher.wait(name_of(spec)) == Exit(1)
    assert launcher.logs(name_of(spec), tail=5) == ("serving",)
    launcher.stop(name_of(spec), grace_s=1)
    assert not spec.folders.run.exists()


def test_what_is_gone_has_ended_and_says_nothing(launcher: CodeLauncher) -> None:
    assert launcher.wait("gone") == Exit(0)
    assert launcher.logs("gone", tail=5) == ()
    assert list(launcher.follow("gone", tail=5)) == []
    assert launcher.stats("gone") == {}
    assert launcher.find() == ()
    launcher.stop("gone", grace_s=1)


def test_a_port_is_picked_for_one_that_needs_tcp(
    launcher: CodeLauncher, spec: InstanceSpec
) -> None:
    listen = launcher.view(spec.folders, tcp=True).listen
    assert isinstance(listen, TcpEndpoint)
    assert listen.host == "127.0.0.1"
    assert launcher.view(spec.folders).listen == spec.listen


def test_who_starts_it_is_shown(launcher: CodeLauncher, spec: InstanceSpec) -> None:
    assert " ".join(launcher.shown(spec)) == "the plug-in x of y 1 starts it itself"


def test_one_name_is_started_once(launcher: CodeLauncher, spec: InstanceSpec) -> None:
    launcher.start(spec)
    with pytest.raises(Conflict):
        launcher.start(spec)
    launcher.stop(name_of(spec), grace_s=1)


def test_an_engine_without_a_plug_in_is_refused(spec: InstanceSpec) -> None:
    for launcher in (CodeLauncher({}, start_s=1), launcher_of(object())):
        with pytest.raises(EngineFailed, match="serving has no plug-in"):
            launcher.start(spec)
    assert not spec.folders.run.exists()


# Starts that fail


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("no\nmemory"), "serving did not start: ValueError: no memory"),
        (SystemExit(3), "serving did not start: SystemExit: 3"),
        (KeyboardInterrupt(), "serving did not start: KeyboardInterrupt"),
    ],
)
def test_a_start_that_raises_fails_and_leaves_nothing(
    launcher: CodeLauncher,
    plugin: Serving,
    spec: InstanceSpec,
    error: BaseException,
    message: str,
) -> None:
    plugin.on_start = raising(error)
    with pytest.raises(EngineFailed) as caught:
        launcher.start(spec)
    assert caught.value.message == message
    assert "the plug-in x of y 1" in caught.value.hint
    assert plugin.happened == [("stopped", name_of(spec))]
    assert not spec.folders.run.exists()
    assert not spec.folders.cache.exists()
    assert launcher.wait(name_of(spec)) == Exit(0)


def test_the_last_lines_of_a_failed_start_are_told(
    launcher: CodeLauncher, plugin: Serving, spec: InstanceSpec
) -> None:
    def fail(work: Any) -> None:  # noqa: ANN401
        work.log.write_text("loading\nout of paper\n")
        raise RuntimeError("it ended")

    plugin.on_start = fail
    with pytest.raises(EngineFailed) as caught:
        launcher.start(spec)
    assert caught.value.log == ("loading", "out of paper")


def test_the_runners_own_errors_pass(
    launcher: CodeLauncher, plugin: Serving, spec: InstanceSpec
) -> None:
    plugin.on_start = raising(BadInput("no such thing", hint="try another"))
    with pytest.raises(BadInput, match="no such thing"):
        launcher.start(spec)
    assert plugin.happened == [("stopped", name_of(spec))]
    assert not spec.folders.run.exists()


def test_a_start_that_hangs_is_given_up_and_stopped_when_it_comes_after_all(
    launcher: CodeLauncher, plugin: Serving, spec: InstanceSpec
) -> None:
    go_on = threading.Event()

    def wait(work: Any) -> None:  # noqa: ANN401
        assert go_on.wait(DEADLINE_S)
        work.run.mkdir(parents=True)

    plugin.on_start = wait
    with pytest.raises(EngineFailed, match=r"did not return within 0\.3 s"):
        launcher.start(spec)
    assert plugin.happened == [("stopped", name_of(spec))]
    plugin.stopped.clear()
    go_on.set()
    assert plugin.stopped.wait(DEADLINE_S)
    assert plugin.happened[1:] == [("started", name_of(spec)), ("stopped", name_of(spec))]
    assert plugin.servers == {}


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://localhost:1",
        8080,
        UnixEndpoint("relative.sock"),
        TcpEndpoint("", 80),
        TcpEndpoint("a", 0),
    ],
)
def test_an_endpoint_that_is_none_fails(
    launcher: CodeLauncher, plugin: Serving, spec: InstanceSpec, endpoint: object
) -> None:
    plugin.endpoint = endpoint
    with pytest.raises(EngineFailed, match="which is no endpoint"):
        launcher.start(spec)
    assert plugin.servers == {}


# Stops, health and figures that fail


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(), BadInput("no")])
def test_a_stop_that_raises_is_logged_and_given_up(
    launcher: CodeLauncher,
    plugin: Serving,
    spec: InstanceSpec,
    error: BaseException,
    caplog: pytest.LogCaptureFixture,
) -> None:
    launcher.start(spec)
    plugin.on_stop = raising(error)
    waiting, ended = in_thread(lambda: launcher.wait(name_of(spec)))
    with caplog.at_level(logging.WARNING):
        launcher.stop(name_of(spec), grace_s=0)
    waiting.join(DEADLINE_S)
    assert ended == [Exit(0)]
    assert f"the plug-in x of y 1 could not stop {name_of(spec)}" in caplog.text
    assert not spec.folders.run.exists()


def test_a_stop_that_hangs_is_given_up_after_the_grace(
    launcher: CodeLauncher,
    plugin: Serving,
    spec: InstanceSpec,
    quick: None,
    hanging: Callable[..., object],
) -> None:
    launcher.start(spec)
    plugin.on_stop = hanging
    stopping, _ = in_thread(lambda: launcher.stop(name_of(spec), grace_s=0.1))
    stopping.join(DEADLINE_S / 2)
    assert not stopping.is_alive()
    assert launcher.wait(name_of(spec)) == Exit(0)


def test_a_health_that_fails_once_is_asked_again(
    launcher: CodeLauncher, plugin: Serving, spec: InstanceSpec, quick: None
) -> None:
    asked = threading.Event()
    answers: list[int] = []

    def fail_every_other_time(_: str) -> None:
        answers.append(1)
        if len(answers) > 10:
            asked.set()
        if len(answers) % 2:
            raise ValueError("busy")

    plugin.on_health = fail_every_other_time
    launcher.start(spec)
    waiting, ended = in_thread(lambda: launcher.wait(name_of(spec)))
    assert asked.wait(DEADLINE_S)
    assert ended == []
    launcher.stop(name_of(spec), grace_s=1)
    waiting.join(DEADLINE_S)
    assert ended == [Exit(0)]


def test_a_health_that_keeps_failing_is_an_end(
    launcher: CodeLauncher, plugin: Serving, spec: InstanceSpec, quick: None
) -> None:
    launcher.start(spec)
    plugin.on_health = raising(ValueError("no"))
    assert launcher.wait(name_of(spec)) == Exit(1)
    launcher.stop(name_of(spec), grace_s=1)


def test_a_health_that_hangs_is_an_end(
    launcher: CodeLauncher,
    plugin: Serving,
    spec: InstanceSpec,
    quick: None,
    hanging: Callable[..., object],
) -> None:
    launcher.start(spec)
    plugin.on_health = hanging
    assert launcher.wait(name_of(spec)) == Exit(1)
    launcher.stop(name_of(spec), grace_s=1)


@pytest.mark.parametrize(
    ("figures", "told"),
    [
        (None, {}),
        ("many", {}),
        ({"a": 1, "b": "2", "c": float("nan"), 4: 4.5}, {"a": 1.0, "4": 4.5}),
    ],
)
def test_only_figures_are_figures(
    launcher: CodeLauncher, plugin: Serving, spec: InstanceSpec, figures: object, told: object
) -> None:
    plugin.figures = figures
    launcher.start(spec)
    assert launcher.stats(name_of(spec)) == told
    launcher.stop(name_of(spec), grace_s=1)


class Figures(dict[str, float]):
    """Hangs when it is read, not when it is returned."""

    def __init__(self, hang: Callable[..., object]) -> None:
        self.hang = hang

    def items(self) -> Any:  # noqa: ANN401
        self.hang()
        return super().items()


def test_figures_that_hang_are_none_and_asked_for_once(
    launcher: CodeLauncher,
    plugin: Serving,
    spec: InstanceSpec,
    quick: None,
    hanging: Callable[..., object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    plugin.figures = Figures(hanging)
    launcher.start(spec)
    with caplog.at_level(logging.WARNING):
        assert launcher.stats(name_of(spec)) == {}
        before = time.monotonic()
        assert launcher.stats(name_of(spec)) == {}
        assert time.monotonic() - before < LIMIT_S
    assert "the plug-in x of y 1 has no stats of" in caplog.text
    assert "it still hangs in an earlier call" in caplog.text
    launcher.stop(name_of(spec), grace_s=1)


class Unsayable:
    """Neither a text nor a truth can be had of it."""

    def __init__(self, hang: Callable[..., object]) -> None:
        self.hang = hang

    def __str__(self) -> str:
        self.hang()
        return ""

    def __bool__(self) -> bool:
        self.hang()
        return True


def test_an_answer_that_hangs_when_it_is_read_is_none(
    launcher: CodeLauncher,
    plugin: Serving,
    spec: InstanceSpec,
    quick: None,
    hanging: Callable[..., object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plugin.logs = lambda instance, tail: [Unsayable(hanging)]  # type: ignore[attr-defined]
    launcher.start(spec)
    assert launcher.logs(name_of(spec), tail=2) == ()
    monkeypatch.setattr(plugin, "health", lambda instance: Unsayable(hanging))
    assert launcher.wait(name_of(spec)) == Exit(1)
    launcher.stop(name_of(spec), grace_s=1)


def test_a_hint_that_hangs_holds_no_failure_up(
    launcher: CodeLauncher,
    plugin: Serving,
    spec: InstanceSpec,
    hanging: Callable[..., object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plugins, "HINT_S", LIMIT_S)
    plugin.on_start = raising(ValueError("no"))
    plugin.hint = hanging  # type: ignore[attr-defined]
    with pytest.raises(EngineFailed, match="ValueError: no") as caught:
        launcher.start(spec)
    assert "the plug-in x of y 1" in caught.value.hint


@pytest.mark.parametrize(
    ("logs", "told"),
    [
        (lambda instance, tail: ["a", 2, "c"], ("2", "c")),
        (lambda instance, tail: "text", ()),
        (raising(ValueError("no")), ()),
    ],
)
def test_a_plug_in_may_have_logs_of_its_own(
    launcher: CodeLauncher, plugin: Serving, spec: InstanceSpec, logs: object, told: object
) -> None:
    plugin.logs = logs  # type: ignore[attr-defined]
    launcher.start(spec)
    assert launcher.logs(name_of(spec), tail=2) == told
    launcher.stop(name_of(spec), grace_s=1)
    assert Path(spec.folders.model).is_dir()

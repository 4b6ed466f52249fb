"""The life of native processes: start, end, and that they never outlive the daemon."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest

import runner
from runner.engines.base import Command, TcpEndpoint, UnixEndpoint
from runner.errors import BadSettings, Conflict, EngineFailed
from runner.launch import leash
from runner.launch.base import Exit, InstanceSpec
from runner.launch.devices import Devices
from runner.launch.filelog import FileLog
from runner.launch.process import ProcessLauncher
from tests.launch.conftest import MakeSpec
from tests.launch.engines import TIMEOUT_S, ask, await_end, await_line, connected, kill
from tests.launch.images import PROBE_FOLDER

SERVE = str(PROBE_FOLDER / "serve.py")
ROOT = Path(runner.__file__).parents[1]
MIB = 1 << 20


@pytest.fixture
def launcher() -> Iterator[ProcessLauncher]:
    launcher = ProcessLauncher()
    yield launcher
    for instance in list(launcher._engines):
        launcher.stop(instance, grace_s=0)


@pytest.fixture
def serving(make_spec: MakeSpec) -> InstanceSpec:
    return with_arguments(make_spec((sys.executable, SERVE)))


def with_arguments(spec: InstanceSpec, *more: str) -> InstanceSpec:
    """The stand-in engine, told to listen where the launcher expects it."""
    socket = str(spec.folders.run / "engine.sock")
    return replace(spec, command=Command(("--host", socket, *more), {"PROBE": "set"}))


def name_of(spec: InstanceSpec) -> str:
    return spec.identity.instance


def test_serves_on_a_socket(launcher: ProcessLauncher, serving: InstanceSpec) -> None:
    endpoint = launcher.start(serving)
    assert endpoint == UnixEndpoint(str(serving.folders.run / "engine.sock"))
    assert launcher.view(serving.folders).listen == endpoint
    await_line(launcher, name_of(serving))
    assert ask(endpoint).starts == 1
    assert launcher.logs(name_of(serving), tail=5) == ("serving",)
    assert launcher.find() == ()


def test_little_of_the_environment_is_passed_on(
    launcher: ProcessLauncher, serving: InstanceSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    endpoint = launcher.start(serving)
    await_line(launcher, name_of(serving))
    told = ask(endpoint).env
    assert "HF_TOKEN" not in told
    assert told["PROBE"] == "set"
    assert told["PATH"] == os.environ["PATH"]
    assert told["XDG_CACHE_HOME"] == str(serving.folders.cache)


def test_what_the_daemon_was_kept_to_holds_for_its_engines(
    launcher: ProcessLauncher, serving: InstanceSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROCR_VISIBLE_DEVICES", "1")
    endpoint = launcher.start(serving)
    await_line(launcher, name_of(serving))
    assert ask(endpoint).env["ROCR_VISIBLE_DEVICES"] == "1"


def test_gpus_are_chosen_by_the_environment(
    launcher: ProcessLauncher, serving: InstanceSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the host's numbers: what the daemon was kept to would have them counted otherwise."""
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("ROCR_VISIBLE_DEVICES", "1")
    devices = Devices(environment={"HIP_VISIBLE_DEVICES": "2,3"})
    endpoint = launcher.start(replace(serving, devices=devices))
    await_line(launcher, name_of(serving))
    told = ask(endpoint).env
    assert told["HIP_VISIBLE_DEVICES"] == "2,3"
    assert "ROCR_VISIBLE_DEVICES" not in told


def test_serves_on_a_port_of_loopback_where_a_socket_will_not_do(
    launcher: ProcessLauncher, make_spec: MakeSpec
) -> None:
    spec = make_spec((sys.executable, SERVE))
    listen = launcher.view(spec.folders, tcp=True).listen
    assert isinstance(listen, TcpEndpoint)
    assert listen.host == "127.0.0.1"
    command = Command(("--host", listen.host, "--port", str(listen.port)))
    endpoint = launcher.start(replace(spec, command=command, listen=listen))
    assert endpoint == listen
    await_line(launcher, name_of(spec))
    assert ask(endpoint).starts == 1


def test_a_stop_ends_waits_and_leaves_only_the_cache(
    launcher: ProcessLauncher, serving: InstanceSpec
) -> None:
    launcher.start(serving)
    await_line(launcher, name_of(serving))
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(launcher.wait, name_of(serving))
        launcher.stop(name_of(serving), grace_s=5)
        assert ended.result(timeout=TIMEOUT_S) == Exit(0)
    assert not serving.folders.run.exists()
    assert (serving.folders.cache / "starts").read_text() == "1"


def test_an_engine_that_does_not_listen_is_killed(
    launcher: ProcessLauncher, serving: InstanceSpec
) -> None:
    stubborn = with_arguments(serving, "--ignore-sigterm")
    launcher.start(stubborn)
    await_line(launcher, name_of(stubborn))
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(launcher.wait, name_of(stubborn))
        launcher.stop(name_of(stubborn), grace_s=0.1)
        assert ended.result(timeout=TIMEOUT_S) == Exit(-signal.SIGKILL)


def test_a_death_leaves_its_last_words(launcher: ProcessLauncher, serving: InstanceSpec) -> None:
    endpoint = launcher.start(serving)
    await_line(launcher, name_of(serving))
    kill(endpoint)
    assert launcher.wait(name_of(serving)) == Exit(7)
    assert launcher.logs(name_of(serving), tail=1) == ("last words",)
    launcher.stop(name_of(serving), grace_s=5)
    assert launcher.logs(name_of(serving), tail=1) == ()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_signal_is_told(
    launcher: ProcessLauncher, serving: InstanceSpec, number: signal.Signals
) -> None:
    endpoint = launcher.start(serving)
    await_line(launcher, name_of(serving))
    os.kill(ask(endpoint).pid, number)
    assert launcher.wait(name_of(serving)) == Exit(-number)


def test_what_an_engine_started_ends_with_it(
    launcher: ProcessLauncher, serving: InstanceSpec
) -> None:
    child = UnixEndpoint(str(serving.folders.run / "child.sock"))
    spec = with_arguments(serving, "--child", child.path)
    endpoint = launcher.start(spec)
    lines = launcher.follow(name_of(spec), tail=10)
    assert [next(lines), next(lines)] == ["serving", "serving"]
    lines.close()
    with connected(child) as connection:
        kill(endpoint)
        await_end(connection)


def test_one_that_is_gone_has_ended(launcher: ProcessLauncher) -> None:
    assert launcher.wait("nosuch") == Exit(0)
    assert launcher.logs("nosuch", tail=5) == ()
    assert list(launcher.follow("nosuch", tail=5)) == []
    launcher.stop("nosuch", grace_s=1)


def test_a_followed_log_ends_with_its_instance(
    launcher: ProcessLauncher, serving: InstanceSpec
) -> None:
    endpoint = launcher.start(serving)
    lines = launcher.follow(name_of(serving), tail=10)
    assert next(lines) == "serving"
    ask(endpoint, "/say/something")
    assert next(lines) == "something"
    launcher.stop(name_of(serving), grace_s=5)
    assert list(lines) == []


# Failed starts


def test_a_program_that_is_not_there_fails_clearly(
    launcher: ProcessLauncher, make_spec: MakeSpec
) -> None:
    spec = make_spec("/no/such/program")
    with pytest.raises(EngineFailed, match="can't be run: No such file") as caught:
        launcher.start(spec)
    assert caught.value.log == ("/no/such/program can't be run: No such file or directory",)
    assert not spec.folders.run.exists()
    assert not spec.folders.cache.exists()


def test_a_socket_path_that_is_too_long_is_refused(
    launcher: ProcessLauncher, serving: InstanceSpec
) -> None:
    run = serving.folders.run / ("x" * 100)
    with pytest.raises(BadSettings, match="too long for a socket"):
        launcher.start(replace(serving, folders=replace(serving.folders, run=run)))


def test_a_second_start_is_refused(launcher: ProcessLauncher, serving: InstanceSpec) -> None:
    endpoint = launcher.start(serving)
    await_line(launcher, name_of(serving))
    with pytest.raises(Conflict):
        launcher.start(serving)
    assert ask(endpoint).starts == 1


# The daemon's end

DAEMON = """
import sys
from pathlib import Path
from tests.launch.conftest import spec_maker
from tests.launch.test_process import SERVE, with_arguments
from runner.launch.filelog import FileLog
from runner.launch.process import ProcessLauncher
spec = with_arguments(spec_maker(Path(sys.argv[1]))((sys.executable, SERVE)))
launcher = ProcessLauncher()
launcher.start(spec)
for line in launcher.follow(spec.identity.instance, tail=1):
    print(spec.folders.run / "engine.sock", flush=True)
"""


def test_an_engine_ends_when_the_daemon_is_killed(folder: Path) -> None:
    command = [sys.executable, "-c", DAEMON, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as daemon:
        path = stdout_of(daemon).readline().strip()
        with connected(UnixEndpoint(path)) as connection:
            daemon.kill()
            daemon.wait()
            await_end(connection)


def leashed(log: Path, grace: str, *command: str) -> subprocess.Popen[str]:
    """A leash as the launcher starts it; the engine's process ID is its first line."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", leash.__file__, str(log), grace, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"XDG_CACHE_HOME": str(log.parent), "PATH": os.environ["PATH"]},
    )


def stdout_of(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdout is not None
    return process.stdout


def test_an_engine_that_ignores_the_daemons_end_is_killed(folder: Path) -> None:
    socket = str(folder / "engine.sock")
    command = (sys.executable, SERVE, "--host", socket, "--ignore-sigterm")
    with leashed(folder / "log", "0.1", *command) as leash_process:
        stdout_of(leash_process).readline()
        lines = FileLog(folder / "log", 5, threading.Event())
        assert next(lines) == "serving"
        lines.close()
        assert leash_process.stdin is not None
        leash_process.stdin.close()
        assert leash_process.wait(TIMEOUT_S) == -signal.SIGKILL


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux tells a process of its parent's end"
)
def test_an_engine_ends_when_its_leash_is_killed(
    launcher: ProcessLauncher, serving: InstanceSpec
) -> None:
    endpoint = launcher.start(serving)
    await_line(launcher, name_of(serving))
    with connected(endpoint) as connection:
        launcher._engines[name_of(serving)]._leash.kill()
        await_end(connection)
    assert launcher.wait(name_of(serving)) == Exit(-signal.SIGKILL)


# Logs


def test_logs_are_capped(folder: Path) -> None:
    log = folder / "log"
    noise = f"for n in range({45 * MIB // 100}): print(f'{{n:099}}')"
    with leashed(log, "1", sys.executable, "-c", noise) as leash_process:
        assert leash_process.wait(TIMEOUT_S) == 0
    files = sorted(file.name for file in folder.iterdir())
    assert files == ["log", "log.1"]
    assert all(file.stat().st_size <= 10 * MIB for file in folder.iterdir())
    last = log.read_text().splitlines()[-1]
    assert int(last) == 45 * MIB // 100 - 1

"""Instances as native processes, each held by a leash so that it ends with the daemon."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from runner.engines.base import Endpoint
from runner.engines.environment import shown
from runner.errors import LOG_TAIL, Conflict, EngineFailed
from runner.launch import leash
from runner.launch.base import (
    NO_LINES,
    Exit,
    Folders,
    InstanceSpec,
    LauncherKind,
    LogLines,
    Running,
    View,
)
from runner.launch.filelog import FileLog, tail_of
from runner.launch.folders import engine_socket, make_folders, remove_run_folder
from runner.launch.ports import LoopbackPorts

LOG_NAME = "engine.log"
DAEMON_GONE_GRACE_S = 5.0
"""How long an engine may take to end once the daemon is gone."""
START_TIMEOUT_S = 15.0
KILL_TIMEOUT_S = 5.0

INHERITED = (
    *("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TZ", "LANG", "LC_ALL", "LC_CTYPE"),
    "LD_LIBRARY_PATH",
)
KEEPS_TO_GPUS = (
    *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
    *("GGML_VK_VISIBLE_DEVICES", "ZE_AFFINITY_MASK", "ONEAPI_DEVICE_SELECTOR"),
    *("ASCEND_RT_VISIBLE_DEVICES", "MUSA_VISIBLE_DEVICES"),
)
"""All that an engine gets of the daemon's environment: no tokens, proxies or settings; and what
the daemon was kept to of the GPUs only where none were chosen: one would count within the other."""


class ProcessLauncher:
    """Starts and stops native engines on this host, as the daemon's own user."""

    kind = LauncherKind.PROCESS
    survives_daemon = False

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._engines: dict[str, _Engine] = {}
        self._ports = LoopbackPorts()

    def view(self, folders: Folders, *, tcp: bool = False) -> View:
        listen = self._ports.endpoint() if tcp else engine_socket(folders)
        others = tuple(str(other) for other in folders.others)
        return View(str(folders.model), str(folders.cache), listen, others)

    def start(self, spec: InstanceSpec) -> Endpoint:
        """Raises EngineFailed, BadSettings, Conflict, DiskFull."""
        name = spec.identity.instance
        endpoint = spec.listen or engine_socket(spec.folders)
        if self._find(name) is not None:
            raise Conflict(f"the instance {name} is running already")
        undo = make_folders(spec.folders)
        try:
            engine = _Engine(spec)
        except BaseException:
            undo()
            raise
        with self._lock:
            self._engines[name] = engine
        return endpoint

    def shown(self, spec: InstanceSpec) -> Sequence[str]:
        own = shown({**spec.command.environment, **spec.devices.environment})
        pairs = [f"{name}={value}" for name, value in own.items()]
        return (*(("env", *pairs) if pairs else ()), *spec.program, *spec.command.arguments)

    def wait(self, instance: str) -> Exit:
        engine = self._find(instance)
        return Exit(0) if engine is None else engine.wait()

    def stop(self, instance: str, *, grace_s: float) -> None:
        engine = self._find(instance)
        if engine is None:
            return
        engine.stop(grace_s)
        remove_run_folder(engine.folders)
        with self._lock:
            self._engines.pop(instance, None)

    def find(self) -> Sequence[Running]:
        """None: whatever an earlier daemon had started has ended with it."""
        return ()

    def logs(self, instance: str, *, tail: int) -> Sequence[str]:
        engine = self._find(instance)
        return () if engine is None else tail_of(engine.log, tail)

    def follow(self, instance: str, *, tail: int) -> LogLines:
        engine = self._find(instance)
        if engine is None:
            return NO_LINES
        try:
            return FileLog(engine.log, tail, engine.ended)
        except FileNotFoundError:  # stopped meanwhile
            return NO_LINES

    def _find(self, instance: str) -> _Engine | None:
        with self._lock:
            return self._engines.get(instance)


class _Engine:
    """One engine under its leash; `ended` is set once both are gone."""

    def __init__(self, spec: InstanceSpec) -> None:
        self.folders = spec.folders
        self.log = spec.folders.run / LOG_NAME
        self.ended = threading.Event()
        self._leash = _spawn(spec, self.log)
        try:
            self._await_start(spec.identity.engine)
        except EngineFailed:
            self._close_pipes()
            raise
        name = f"reap-{spec.identity.instance}"
        threading.Thread(target=self._reap, name=name, daemon=True).start()

    def wait(self) -> Exit:
        self.ended.wait()
        return Exit(self._leash.returncode)

    def stop(self, grace_s: float) -> None:
        """The leash takes a first SIGTERM as a request, a second one as an order."""
        self._leash.terminate()
        if self.ended.wait(grace_s):
            return
        self._leash.terminate()
        if not self.ended.wait(KILL_TIMEOUT_S):
            self._leash.kill()
            self.ended.wait(KILL_TIMEOUT_S)

    def _await_start(self, engine: str) -> None:
        """The leash prints a line once the engine runs; its end without one is a failure."""
        output = _pipe(self._leash.stdout)
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            if selector.select(START_TIMEOUT_S) and output.readline():
                return
        self._leash.kill()
        self._leash.wait()
        lines = tail_of(self.log, LOG_TAIL)
        reason = lines[-1] if lines else "its process ended at once"
        raise EngineFailed(f"{engine} did not start: {reason}", log=lines)

    def _reap(self) -> None:
        self._leash.wait()
        self._close_pipes()
        self.ended.set()

    def _close_pipes(self) -> None:
        _pipe(self._leash.stdin).close()
        _pipe(self._leash.stdout).close()


def _spawn(spec: InstanceSpec, log: Path) -> subprocess.Popen[bytes]:
    leashed = (sys.executable, "-I", "-S", leash.__file__, str(log), str(DAEMON_GONE_GRACE_S))
    with log.open("ab") as errors:
        return subprocess.Popen(
            [*leashed, *spec.program, *spec.command.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=_environment(spec),
            cwd=spec.folders.run,
            # A Ctrl-C in the daemon's terminal is for the daemon: it drains before it stops.
            start_new_session=True,
        )


def _environment(spec: InstanceSpec) -> Mapping[str, str]:
    chosen = spec.devices.environment
    names = INHERITED if chosen else (*INHERITED, *KEEPS_TO_GPUS)
    inherited = {name: os.environ[name] for name in names if name in os.environ}
    cache = {"XDG_CACHE_HOME": str(spec.folders.cache)}
    return {**inherited, **cache, **spec.command.environment, **chosen}


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream

"""Starts the daemon in the background when a command needs it and none answers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from runner.cli.output import note
from runner.daemonlock import is_held
from runner.errors import AlreadyRunning, RunnerError, Unavailable
from runner.home import Home, home_from
from runner.logfile import last_lines

if TYPE_CHECKING:
    from runner.cli.client import Client

START_S = 20.0
STOP_S = 60.0
_POLL_S = 0.03
_SAY_AFTER_S = 1.0
_PATHS = (
    *("RUNNER_HOME", "RUNNER_CONFIG", "XDG_DATA_HOME"),
    *("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "HF_HOME", "HF_TOKEN_PATH"),
)


def this_home() -> Home:
    """Where this command's state lies; the settings' other values need not be read for it."""
    return home_from(os.environ)


def client_of(home: Home) -> Client:
    from runner.cli.client import Client

    return Client(home.socket)


def running_client(*, quiet: bool = False) -> Client:
    """A client whose daemon answers: started where needed, and said so. Raises Unavailable."""
    home = this_home()
    client = client_of(home)
    if not client.answers():
        pid = start(home, client)
        if not quiet:
            note(
                f"started the runner's daemon in the background (pid {pid}); "
                "`runner stop-runner` ends it"
            )
    return client


def client_with_engines(home: Home) -> Client | None:
    """For commands that end something: the daemon, started where engines outlived the last one.

    None where neither a daemon nor an engine is there.
    """
    client = client_of(home)
    if client.answers():
        return client
    if not home.left_instances():
        return None
    note("the daemon was gone; starting it to take over the engines it left")
    start(home, client)
    return client


def start(home: Home, client: Client, more: Mapping[str, str] | None = None) -> int:
    """Starts a daemon that outlives this command and waits until it answers; its process ID.

    `more` are variables for it alone.
    """
    home.prepare()
    process: subprocess.Popen[bytes] | None = None
    deadline = time.monotonic() + START_S
    while not client.answers():
        # Another command's daemon may be starting, or an earlier one still draining.
        held = is_held(home)
        if process is None and not held:
            process = _spawned(home, more)
        elif process is not None and process.poll() is not None and not held:
            raise _failed_start(home, process.returncode)
        if time.monotonic() > deadline:
            if process is not None:
                process.terminate()
            raise Unavailable(f"the daemon did not answer within {START_S:.0f} s", hint=_see(home))
        time.sleep(_POLL_S)
    return int(client.get("/runner/v1/status")["pid"])


def _spawned(home: Home, more: Mapping[str, str] | None) -> subprocess.Popen[bytes]:
    with home.log_file.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "runner", "serve"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=_environment({**os.environ, **(more or {})}),
            cwd="/",
        )


def wait_until_gone(home: Home, drain_timeout: float) -> None:
    """Returns when the daemon has ended, engines and all; raises Unavailable if it takes long."""
    began = time.monotonic()
    patience = drain_timeout + STOP_S
    deadline, said = began + patience, False
    while is_held(home):
        if not said and time.monotonic() > began + _SAY_AFTER_S:
            note("waiting for the requests and jobs under way …")
            said = True
        if time.monotonic() > deadline:
            raise Unavailable(
                f"the daemon is still draining after {patience:.0f} s", hint="see `runner ps`"
            )
        time.sleep(_POLL_S)


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The daemon works in `/`: relative paths in variables are made absolute first."""
    found = dict(variables)
    for name in _PATHS:
        if found.get(name):
            found[name] = os.path.abspath(os.path.expanduser(found[name]))  # noqa: PTH100, PTH111
    return found


def _failed_start(home: Home, status: int) -> RunnerError:
    """The daemon's own last line says why."""
    lines = last_lines(home.log_file, 1)
    said = lines[-1].removeprefix("runner: ") if lines else f"status {status}"
    kind = AlreadyRunning if status == AlreadyRunning.exit_code else Unavailable
    return kind(f"the daemon did not start: {said}")


def _see(home: Home) -> str:
    return f"see {home.log_file}"

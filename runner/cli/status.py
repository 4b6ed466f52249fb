"""`runner status`: is the daemon there, which engines and instances it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from runner.cli.options import AsJson

if TYPE_CHECKING:
    from runner.home import Home

_NOT_RUNNING = 1
_RUNS_AS = {"docker": "container", "process": "process", "code": "plug-in"}
_LAUNCHERS = {"image": "docker", "environment": "process"}


def status(as_json: AsJson = False) -> None:
    """Show the daemon, its engines and what is loaded."""
    from runner.cli.background import client_of, this_home
    from runner.cli.output import show_json
    from runner.errors import DaemonNotRunning

    home = this_home()
    try:
        found: Mapping[str, Any] = client_of(home).get("/runner/v1/status")
    except DaemonNotRunning:
        found = _at_rest(home)
    if as_json:
        show_json(found)
    else:
        _print(found)
    if not found["running"] and not as_json:
        raise typer.Exit(_NOT_RUNNING)


def _at_rest(home: Home) -> Mapping[str, Any]:
    """What can be said without a daemon and without reading the settings."""
    from runner.engines.native import NATIVE_VARIANT, wheel_programs
    from runner.state import State

    engines = [
        (install.engine, install.variant, install.version, _LAUNCHERS[install.kind])
        for install in State(home.state_file).installs()
    ]
    for engine, wheel in wheel_programs().items():
        engines.append((engine, NATIVE_VARIANT, wheel.version, "process"))
    keys = ("backend", "variant", "version", "launcher")
    return {
        "running": False,
        "home": str(home.root),
        "engines": [dict(zip(keys, engine, strict=True)) for engine in engines],
        "instances": [],
    }


def _print(found: Mapping[str, Any]) -> None:
    from runner.cli.output import table

    if found["running"]:
        print(f"runner {found['version']} is running (pid {found['pid']})")
        print(f"endpoint  {found['endpoint']}")
    else:
        print("runner is not running; `runner start-runner` starts it")
    print(f"home      {found['home']}")
    print()
    if found["engines"]:
        rows = [
            (
                engine["backend"],
                engine["variant"],
                engine["version"] or "-",
                _RUNS_AS[engine["launcher"]],
            )
            for engine in found["engines"]
        ]
        table(("BACKEND", "VARIANT", "VERSION", "RUNS AS"), rows)
    else:
        print("no engine is installed; `runner install-runner` installs llama.cpp")
    if found["running"]:
        loaded = len(found["instances"])
        print(
            f"\n{loaded} model{'' if loaded == 1 else 's'} loaded, {found['models']} in the store"
        )

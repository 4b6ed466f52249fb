"""`runner ps`: the instances that serve models now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner.cli.options import AsJson

if TYPE_CHECKING:
    from collections.abc import Mapping

_NOT_RUNNING = "the runner's daemon is not running"
_ENGINES_LEFT = (
    "; engines that it left may still run: `runner start-runner` takes them over, "
    "`runner stop-runner` ends them"
)
_HEADER = ("MODEL", "BACKEND", "STATUS", "REQUESTS", "CONTEXT", "INSTANCE")


def ps(as_json: AsJson = False) -> None:
    """List the models that are loaded."""
    from runner.cli.background import client_of, this_home
    from runner.cli.output import note, show_json, table
    from runner.errors import DaemonNotRunning

    home = this_home()
    try:
        instances = client_of(home).get("/runner/v1/instances")
    except DaemonNotRunning:
        note(_NOT_RUNNING + (_ENGINES_LEFT if home.left_instances() else ""))
        instances = []
    if as_json:
        show_json(instances)
        return
    table(
        _HEADER,
        [
            (
                found["model"],
                _backend(found),
                found["phase"],
                str(found["users"]),
                str(found["context_size"]),
                found["instance"],
            )
            for found in instances
        ],
    )
    for found in instances:
        if stands_in := found.get("stands_in"):
            note(stands_in["note"])


def _backend(found: Mapping[str, Any]) -> str:
    label, stands_in = f"{found['backend']}/{found['variant']}", found.get("stands_in")
    return f"{label} for {stands_in['for']}" if stands_in else label

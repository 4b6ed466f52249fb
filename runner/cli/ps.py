"""`runner ps`: the instances that serve models now."""

from __future__ import annotations

from runner.cli.options import AsJson

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
                f"{found['backend']}/{found['variant']}",
                found["phase"],
                str(found["users"]),
                str(found["context_size"]),
                found["instance"],
            )
            for found in instances
        ],
    )

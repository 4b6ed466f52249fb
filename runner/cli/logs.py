"""`runner logs`: the daemon's lines and its engines'."""

from __future__ import annotations

from typing import Annotated

import typer

_TAIL = 200


def logs(
    model: Annotated[str, typer.Argument(help="Only this model's engines.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines.")] = False,
    no_engines: Annotated[bool, typer.Option("--no-engines", help="The daemon's only.")] = False,
) -> None:
    """Show the logs of the daemon and of the engines that run."""
    from urllib.parse import urlencode

    from runner.cli.background import client_of, this_home
    from runner.cli.output import note
    from runner.errors import DaemonNotRunning
    from runner.logfile import last_lines

    home = this_home()
    asked = {"model": model, "follow": int(follow), "no-engines": int(no_engines)}
    try:
        for line in client_of(home).lines("GET", f"/logs?{urlencode(asked)}"):
            print(line, flush=follow)
    except DaemonNotRunning:
        note("the runner's daemon is not running; these are its last lines")
        for line in last_lines(home.log_file, _TAIL):
            print(f"runner | {line}")

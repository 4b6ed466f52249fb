"""`runner version`."""

from __future__ import annotations

from runner.cli.options import AsJson


def version(as_json: AsJson = False) -> None:
    """Show the versions of this program and the daemon."""
    from runner import __version__
    from runner.cli.background import client_of, this_home
    from runner.cli.output import show_json
    from runner.errors import DaemonNotRunning

    try:
        daemon = client_of(this_home()).get("/version")["version"]
    except DaemonNotRunning:
        daemon = ""
    if as_json:
        show_json({"client": __version__, "daemon": daemon})
        return
    print(f"runner {__version__}")
    print(f"daemon {daemon or '(not running)'}")

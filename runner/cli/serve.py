"""`runner serve`: the daemon in the foreground; `start-runner`: in the background."""

from __future__ import annotations

from typing import Annotated

import typer


def serve(
    port: Annotated[int | None, typer.Option("--port", help="The loopback port.")] = None,
    host: Annotated[str | None, typer.Option("--host", help="A loopback address.")] = None,
    log_level: Annotated[str | None, typer.Option("--log-level")] = None,
) -> None:
    """Run the daemon in the foreground; Ctrl-C ends it."""
    from runner.cli.output import note
    from runner.configuration import load
    from runner.daemon import serve as run_daemon

    configuration = load(flags={"port": port, "host": host, "log_level": log_level})
    settings = configuration.settings
    where = f"http://{settings.host}:{settings.port}/engines/v1/ ({configuration.home.root})"
    run_daemon(configuration, lambda: note(f"runner: {where}"))


def start_runner() -> None:
    """Start the daemon in the background."""
    from runner.cli.background import client_of, start, this_home

    home = this_home()
    client = client_of(home)
    if client.answers():
        print(f"the daemon is running already (pid {client.get('/runner/v1/status')['pid']})")
        return
    print(f"started the daemon (pid {start(home, client)})")

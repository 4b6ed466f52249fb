"""`runner restart-runner`: a new daemon that takes over the engines of the old one."""

from __future__ import annotations


def restart_runner() -> None:
    """Restart the daemon; containers stay loaded."""
    from runner.cli.background import client_of, start, this_home, wait_until_gone
    from runner.errors import DaemonNotRunning

    home = this_home()
    client = client_of(home)
    try:
        told = client.post("/runner/v1/stop", {"leave_engines": True})
    except DaemonNotRunning:
        pass
    else:
        wait_until_gone(home, told["drain_timeout"])
    print(f"started the daemon (pid {start(home, client)})")

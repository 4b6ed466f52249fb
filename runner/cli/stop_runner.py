"""`runner stop-runner`: drains and stops the engines and the daemon."""

from __future__ import annotations


def stop_runner() -> None:
    """Stop the daemon and its engines."""
    from runner.cli.background import client_with_engines, this_home, wait_until_gone

    home = this_home()
    client = client_with_engines(home)
    if client is None:
        print("the daemon is not running")
        return
    told = client.post("/runner/v1/stop", {"leave_engines": False})
    wait_until_gone(home, told["drain_timeout"])
    print("stopped the daemon and its engines")

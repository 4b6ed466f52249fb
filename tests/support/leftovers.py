"""What a test session has left behind: what it made in Docker, and processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from docker import DockerClient

SESSION_VARIABLE = "TEST_SESSION"
"""Set for the whole session, so that every process that a test starts inherits it."""

OWN_LABELS = ("io.runner.home", "runner.test")
RUN_FOLDER_LABEL = "io.runner.folder.run"
GRACE_S = 10.0
"""How long something that was told to end may take to be gone."""

Things = frozenset[str]


def docker_things(client: DockerClient, project: str, folder: Path) -> Things:
    """What Docker has with our labels, or of the session's compose project.

    Engines whose sockets lie outside the session's folder belong to another runner here.
    """
    return frozenset(
        thing
        for label in (*OWN_LABELS, f"com.docker.compose.project={project}")
        for thing in _labelled(client, label, folder)
    )


def _labelled(client: DockerClient, label: str, folder: Path) -> Iterator[str]:
    wanted = {"label": label}
    for container in client.api.containers(all=True, filters=wanted):
        if not container["Labels"].get(RUN_FOLDER_LABEL, f"{folder}/").startswith(f"{folder}/"):
            continue
        yield f"container {container['Names'][0]} of {container['Image']} ({label})"
    for network in client.api.networks(filters=wanted):
        yield f"network {network['Name']} ({label})"
    for volume in client.api.volumes(filters=wanted)["Volumes"] or ():
        yield f"volume {volume['Name']} ({label})"
    for image in client.api.images(filters=wanted):
        yield f"image {image['Id']} ({label})"


def processes(session: str, folder: Path) -> Things:
    """Processes other than this one that inherited the session or name its folder."""
    variable = f"{SESSION_VARIABLE}={session}"
    return frozenset(
        f"process {pid}: {command[:200]}"
        for pid, command, environment in _running()
        if pid != os.getpid() and (variable in environment or f"{folder}/" in command)
    )


def _running() -> Iterator[tuple[int, str, str]]:
    """Each process that this user may look into: its id, command line and environment."""
    if sys.platform == "linux":
        yield from _from_proc()
    else:
        yield from _from_ps()


def _from_proc() -> Iterator[tuple[int, str, str]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
                environment = (entry / "environ").read_bytes()
            except OSError:  # ended meanwhile, or somebody else's
                continue
            yield int(entry.name), _text(command), _text(environment)


def _text(nul_separated: bytes) -> str:
    return nul_separated.replace(b"\0", b" ").decode(errors="replace")


def _from_ps() -> Iterator[tuple[int, str, str]]:
    """`ps -E` prints the environment after the command line."""
    listing = subprocess.run(
        ["ps", "-axwwE", "-o", "pid=,command="], capture_output=True, text=True, check=True
    )
    for line in listing.stdout.splitlines():
        pid, _, rest = line.strip().partition(" ")
        yield int(pid), rest, rest


def still_there(look: Callable[[], Things]) -> Things:
    """What `look` still finds when the grace is over; returns at once when it finds nothing."""
    deadline = time.monotonic() + GRACE_S
    while (found := look()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found

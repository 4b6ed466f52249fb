"""Engines' sockets, which lie in folders that the engines themselves may write."""

from __future__ import annotations

import stat
from pathlib import Path


def socket_itself(path: str) -> str:
    """The path again; raises ConnectionRefusedError where it is anything but a socket.

    An engine that was taken over could put a link to some other program's socket there, such as
    Docker's, and have us speak to that with our rights.
    """
    if not stat.S_ISSOCK(Path(path).lstat().st_mode):
        raise ConnectionRefusedError(f"{path} is no socket")
    return path

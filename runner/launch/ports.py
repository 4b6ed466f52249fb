"""Free ports on loopback for native engines that can't listen on a Unix socket."""

from __future__ import annotations

import socket
import threading
from collections import deque

from runner.engines.base import TcpEndpoint

LOOPBACK = "127.0.0.1"
REMEMBERED = 64
"""So many ports are not given out again at once: their engines may not listen yet."""


class LoopbackPorts:
    """The system picks; a port that another program takes meanwhile shows as a failed start."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._given: deque[int] = deque(maxlen=REMEMBERED)

    def endpoint(self) -> TcpEndpoint:
        with self._lock:
            port = _free_port()
            while port in self._given:
                port = _free_port()
            self._given.append(port)
        return TcpEndpoint(LOOPBACK, port)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        return int(listener.getsockname()[1])

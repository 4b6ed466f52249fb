"""Talks to the engines that launcher tests start."""

from __future__ import annotations

import socket
from dataclasses import dataclass

import httpx

from runner.engines.base import Endpoint, UnixEndpoint
from runner.launch.base import Launcher

TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Told:
    """What the stand-in engine says of itself."""

    starts: int
    pid: int
    uid: int
    env: dict[str, str]


def ask(endpoint: Endpoint, path: str = "/") -> Told:
    if isinstance(endpoint, UnixEndpoint):
        transport = httpx.HTTPTransport(uds=endpoint.path)
        base = "http://engine"
    else:
        transport, base = httpx.HTTPTransport(), str(endpoint)
    with httpx.Client(transport=transport, base_url=base, timeout=TIMEOUT_S) as client:
        return Told(**client.get(path).raise_for_status().json())


def kill(endpoint: Endpoint) -> None:
    """Has the engine end in the middle of a request, as a crash would."""
    try:
        ask(endpoint, "/die")
    except httpx.TransportError:
        return
    raise AssertionError("it answered")


def connected(endpoint: Endpoint) -> socket.socket:
    """A connection that ends when the engine does."""
    assert isinstance(endpoint, UnixEndpoint)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(TIMEOUT_S)
    connection.connect(endpoint.path)
    return connection


def await_end(connection: socket.socket) -> None:
    """Returns when the other side is gone; raises TimeoutError where it stays."""
    try:
        assert connection.recv(1) == b""
    except ConnectionResetError:
        return


def await_line(launcher: Launcher, instance: str, wanted: str = "serving") -> None:
    """Reads the log until the line comes; fails at the log's end."""
    lines = launcher.follow(instance, tail=100)
    seen = []
    for line in lines:
        seen.append(line)
        if line == wanted:
            lines.close()
            return
    raise AssertionError(f"{wanted!r} never came: {seen}")

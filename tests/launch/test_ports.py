"""Ports for native engines that have no socket."""

from __future__ import annotations

import socket

from runner.launch.ports import REMEMBERED, LoopbackPorts


def test_each_is_free_and_given_once() -> None:
    ports = LoopbackPorts()
    given = [ports.endpoint() for _ in range(REMEMBERED)]
    assert len({endpoint.port for endpoint in given}) == REMEMBERED
    for endpoint in given[:5]:
        with socket.socket() as listener:
            listener.bind((endpoint.host, endpoint.port))
            assert endpoint.host == "127.0.0.1"

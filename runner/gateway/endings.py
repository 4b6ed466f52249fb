"""How a stream ends whose engine died: never so that a client takes it for complete."""

from __future__ import annotations

import asyncio
import socket
import struct

from runner.errors import RunnerError
from runner.gateway import render

DONE = b"data: [DONE]"
TAIL = 64
"""Bytes of an unframed stream's end to remember, enough to hold DONE and its line ends."""

EVENT_ENDS = (b"\n\n", b"\r\n\r\n", b"\n\n\r\n", b"\r\n\r\n\r\n")
"""How the last bytes look after a whole event, bare and as the end of a chunk."""

RESET = struct.pack("ii", 1, 0)


def error_event(error: RunnerError, last: bytes, *, as_chunk: bool) -> bytes:
    """One server-sent event that follows the bytes `last`, whole events or not."""
    event = render.event(error)
    if not last.endswith(EVENT_ENDS):
        event = b"\n\n" + event
    return b"%x\r\n%b\r\n" % (len(event), event) if as_chunk else event


def reset_on_close(transport: asyncio.Transport) -> None:
    """Makes the close an abort for the peer, after what was written: an unframed body ends by
    the connection's end, and an orderly one would say that it was complete.
    """
    peer = transport.get_extra_info("socket")
    if peer is not None and peer.family != socket.AF_UNIX:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

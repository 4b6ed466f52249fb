"""Bytes between a client and a thread, a bounded number at a time: each waits for the other."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO

from starlette.requests import ClientDisconnect

from runner.api.jobs import in_own_thread
from runner.errors import ShuttingDown

if TYPE_CHECKING:
    from typing_extensions import Buffer

PIECE = 1024 * 1024
_WAITING = 4
"""Pieces between the two."""

_END = b""


class Upload(io.RawIOBase):
    """A request's body as a file for a thread to read. Made on the event loop."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(_WAITING)
        self._rest = memoryview(b"")
        self._is_over = False

    async def fill(self, body: AsyncIterator[bytes]) -> None:
        """Takes the body in; where the client leaves, the reader gets ShuttingDown."""
        piece = bytearray()
        try:
            async for chunk in body:
                piece += chunk
                if len(piece) >= PIECE:
                    await self._pieces.put(bytes(piece))
                    piece.clear()
        except ClientDisconnect:
            await self._pieces.put(None)
            return
        if piece:
            await self._pieces.put(bytes(piece))
        await self._pieces.put(_END)

    def readable(self) -> bool:
        return True

    def readinto(self, target: Buffer) -> int:
        if not self._rest and not self._is_over:
            self._rest = memoryview(self._next())
        with memoryview(target).cast("B") as view:
            count = min(len(view), len(self._rest))
            view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def _next(self) -> bytes:
        piece = asyncio.run_coroutine_threadsafe(self._pieces.get(), self._loop).result()
        self._is_over = not piece
        if piece is None:
            raise ShuttingDown("the upload broke off", hint="send it again")
        return piece


async def written(work: Callable[[BinaryIO], object]) -> AsyncGenerator[bytes, None]:
    """What `work` writes in a thread of its own, in pieces; it is stopped when nobody takes them.

    Raises what the work raises.
    """
    pieces: asyncio.Queue[bytes] = asyncio.Queue(_WAITING)
    target = _Target(pieces)

    async def run() -> None:
        try:
            await in_own_thread(lambda: _write_all(work, target))
        finally:
            await pieces.put(_END)

    task = asyncio.ensure_future(run())
    try:
        while piece := await pieces.get():
            yield piece
        await task
    finally:
        target.give_up()


def _write_all(work: Callable[[BinaryIO], object], target: _Target) -> None:
    buffered = io.BufferedWriter(target, PIECE)
    work(buffered)
    buffered.flush()


class _Target(io.RawIOBase):
    def __init__(self, pieces: asyncio.Queue[bytes]) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._pieces = pieces
        self._nobody = threading.Event()

    def writable(self) -> bool:
        return True

    def write(self, content: Buffer) -> int:
        if self._nobody.is_set():
            raise ShuttingDown("nobody takes the bytes any more")
        piece = bytes(content)
        asyncio.run_coroutine_threadsafe(self._pieces.put(piece), self._loop).result()
        return len(piece)

    def give_up(self) -> None:
        """Lets a writer that waits go on, to its next write and its end."""
        self._nobody.set()
        with suppress(asyncio.QueueEmpty):
            while True:
                self._pieces.get_nowait()

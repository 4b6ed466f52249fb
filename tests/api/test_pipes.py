"""Bytes between a client and a thread: whole, in order, bounded, and ended by either side."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncIterator
from typing import BinaryIO

import pytest
from starlette.requests import ClientDisconnect

from runner.api.jobs import in_own_thread
from runner.api.pipes import PIECE, Upload, written
from runner.errors import ShuttingDown

CONTENT = bytes(range(256)) * (PIECE // 64)
DEADLINE_S = 30


async def body(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def uploaded(source: AsyncIterator[bytes]) -> bytes:
    upload = Upload()
    filling = asyncio.ensure_future(upload.fill(source))
    read = await in_own_thread(lambda: io.BufferedReader(upload, PIECE).read())
    await filling
    return read


def test_an_upload_reaches_the_reader_whole() -> None:
    chunks = [CONTENT[start : start + 65_000] for start in range(0, len(CONTENT), 65_000)]
    assert asyncio.run(uploaded(body(*chunks))) == CONTENT


def test_an_empty_upload_is_empty() -> None:
    assert asyncio.run(uploaded(body())) == b""


def test_a_client_that_leaves_is_told_to_the_reader() -> None:
    async def leaving() -> AsyncIterator[bytes]:
        yield CONTENT
        raise ClientDisconnect

    with pytest.raises(ShuttingDown, match="broke off"):
        asyncio.run(uploaded(leaving()))


def test_a_slow_reader_holds_the_client_up() -> None:
    """No more than a few pieces lie between the two."""
    sent = 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 1
            yield bytes(PIECE)

    async def main() -> None:
        upload = Upload()
        filling = asyncio.ensure_future(upload.fill(counted()))
        assert await in_own_thread(lambda: len(upload.read(1) or b"")) == 1
        for _ in range(100):
            await asyncio.sleep(0)
        filling.cancel()

    asyncio.run(main())
    assert 0 < sent < 10


def test_what_a_thread_writes_comes_whole() -> None:
    def work(target: BinaryIO) -> None:
        for start in range(0, len(CONTENT), 70_000):
            target.write(CONTENT[start : start + 70_000])

    async def main() -> bytes:
        return b"".join([piece async for piece in written(work)])

    assert asyncio.run(main()) == CONTENT


def test_a_failure_of_the_writer_is_raised() -> None:
    def work(target: BinaryIO) -> None:
        target.write(b"a beginning")
        raise ShuttingDown("no more")

    async def main() -> None:
        async for _ in written(work):
            pass

    with pytest.raises(ShuttingDown, match="no more"):
        asyncio.run(main())


def test_a_writer_ends_once_nobody_takes_its_bytes() -> None:
    ended = threading.Event()

    def work(target: BinaryIO) -> None:
        try:
            while True:
                target.write(bytes(PIECE))
        finally:
            ended.set()

    async def main() -> bool:
        pieces = written(work)
        assert len(await anext(pieces)) == PIECE
        await pieces.aclose()
        return await asyncio.to_thread(ended.wait, DEADLINE_S)

    assert asyncio.run(main())

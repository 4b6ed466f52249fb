"""Blobs in ranges: the same memory for every read, and how a broken connection is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from runner.errors import RegistryError
from runner.registry.client import RegistryClient
from runner.registry.source import Content, HttpSource, Interrupted
from runner.settings import Settings
from tests.registry import faults
from tests.registry.content import Generated
from tests.registry.server import Fault, Handler, Registry, running
from tests.registry.storage import Storage

SIZE = 3 * 256 * 1024 + 17
CONTENT = Generated(SIZE, "blob").read(0, SIZE)
SIZES = (1, 4096, 65536, 333, 200_000, 65536)
CHUNK = 10_000


@pytest.fixture
def client(server: Registry, settings: Settings) -> Iterator[RegistryClient]:
    with RegistryClient(server.address, settings) as client:
        yield client


@pytest.fixture
def source(server: Registry, client: RegistryClient) -> HttpSource:
    return client.blob_source("a/b", server.add_blob(CONTENT))


def read_to_end(read: Callable[[int], Content]) -> bytes:
    """By reads of many sizes, each of which is good until the next one."""
    content, number = bytearray(), 0
    while piece := read(SIZES[number % len(SIZES)]):
        content += piece
        number += 1
    return bytes(content)


@pytest.mark.parametrize(
    ("start", "end"), [(0, SIZE), (0, 1), (100_000, 700_001), (SIZE - 1, SIZE)]
)
def test_a_range_arrives_right_by_many_reads(source: HttpSource, start: int, end: int) -> None:
    with source.open(start, end) as body:
        assert (body.start, body.whole, body.total) == (start, False, SIZE)
        assert read_to_end(body.read) == CONTENT[start:end]
        assert bytes(body.read(100)) == b""


def test_reads_share_their_memory(source: HttpSource) -> None:
    with source.open(0, SIZE) as body:
        first = body.read(1000)
        assert bytes(first) == CONTENT[: len(first)]
        second = body.read(1000)
        assert isinstance(first, memoryview)
        assert isinstance(second, memoryview)
        assert first.obj is second.obj
        assert bytes(second) == CONTENT[len(first) : len(first) + len(second)]


def test_ranges_follow_each_other_on_one_connection(
    server: Registry, client: RegistryClient, source: HttpSource
) -> None:
    peers = set()

    def note(handler: Handler) -> bool:
        peers.add(handler.client_address)
        return False

    server.lasting.append(("GET .*/blobs/", note))
    for start in range(0, SIZE, 100_000):
        end = min(SIZE, start + 100_000)
        with source.open(start, end) as body:
            content = bytearray()
            while len(content) < end - start:
                content += body.read(min(40_000, end - start - len(content)))
        assert bytes(content) == CONTENT[start:end]
    assert len(peers) == 1


def test_a_host_without_ranges_sends_all(server: Registry, source: HttpSource) -> None:
    server.faults.append(("GET .*/blobs/", faults.whole))
    with source.open(1000, 2000) as body:
        assert (body.start, body.whole, body.total) == (0, True, SIZE)
        assert read_to_end(body.read) == CONTENT


def chunks_of(content: bytes) -> list[bytes]:
    return [content[n : n + CHUNK] for n in range(0, len(content), CHUNK)]


def chunked(end: bytes, pieces: int | None = None) -> Fault:
    """Sends the blob, or its first pieces, in chunked encoding, then `end` and nothing more."""

    def answer(handler: Handler) -> bool:
        handler.close_connection = True
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes 0-{SIZE - 1}/{SIZE}")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for piece in chunks_of(CONTENT)[:pieces]:
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        handler.wfile.write(end)
        return True

    return answer


def test_chunked_encoding_arrives_right(server: Registry, source: HttpSource) -> None:
    server.faults.append(("GET .*/blobs/", chunked(b"0\r\n\r\n")))
    with source.open(0, SIZE) as body:
        assert read_to_end(body.read) == CONTENT
        assert bytes(body.read(100)) == b""


BROKEN: dict[str, Fault] = {
    "at once": faults.disconnect(0),
    "after a byte": faults.disconnect(1),
    "in the middle": faults.disconnect(SIZE // 2),
    "before the last byte": faults.disconnect(SIZE - 1),
    "whole, in the middle": lambda h: h.break_off(CONTENT[: SIZE // 2], SIZE),
    "before the first chunk": chunked(b"", 0),
    "between chunks": chunked(b"", 3),
    "within a chunk": chunked(b"%x\r\n%b" % (CHUNK, CONTENT[:100]), 3),
    "before the last chunk": chunked(b""),
    "a chunk of no size": chunked(b"hello\r\n", 3),
    "a chunk of a long size": chunked(b"1" * 100_000, 3),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_connection_is_no_end(server: Registry, source: HttpSource, name: str) -> None:
    server.faults.append(("GET .*/blobs/", BROKEN[name]))
    content = bytearray()
    with source.open(0, SIZE) as body, pytest.raises(Interrupted) as caught:
        while piece := body.read(3000):
            content += piece
    assert CONTENT.startswith(content)
    assert f"can't reach {server.address}: " in caught.value.reason.message
    assert "\n" not in caught.value.reason.message
    with source.open(len(content), SIZE) as body:
        assert bytes(content) + read_to_end(body.read) == CONTENT


def test_a_storage_host_that_breaks_off(settings: Settings, docker_config: object) -> None:
    with running(Registry(storage=Storage())) as server:
        assert server.storage
        digest = server.add_blob(CONTENT)
        server.storage.faults.append(faults.disconnect(1000))
        with RegistryClient(server.address, settings) as client:
            source = client.blob_source("a/b", digest)
            with source.open(0, SIZE) as body, pytest.raises(Interrupted):
                read_to_end(body.read)
            with source.open(1000, SIZE) as body:
                assert read_to_end(body.read) == CONTENT[1000:]


def test_another_range_than_asked_for(server: Registry, source: HttpSource) -> None:
    server.faults.append(("GET .*/blobs/", faults.other_range))
    with pytest.raises(RegistryError, match="another range"):
        source.open(0, SIZE)

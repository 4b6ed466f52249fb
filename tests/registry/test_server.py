"""The test registry itself: what it promises, and that independent clients take it for one."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path

import pytest

from tests.registry import faults
from tests.registry.content import PIECE, Generated
from tests.registry.server import Registry, digest_of, running
from tests.registry.storage import Storage
from tests.registry.throttle import Throttle
from tests.support.tools import tool

CONTENT = hashlib.shake_128(b"content").digest(3 * PIECE + 7)
BLOB = f"/v2/a/b/blobs/{digest_of(CONTENT)}"


@pytest.fixture
def server() -> Iterator[Registry]:
    with running(Registry()) as registry:
        registry.add_blob(CONTENT)
        yield registry


@contextmanager
def asking(
    server: Registry,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> Iterator[HTTPResponse]:
    connection = HTTPConnection("localhost", server.port, timeout=10)
    try:
        connection.request(method, path, body, headers or {})
        yield connection.getresponse()
    finally:
        connection.close()


def status_of(server: Registry, method: str, path: str, body: bytes | None = None) -> int:
    with asking(server, method, path, body) as response:
        return response.status


@pytest.mark.parametrize(
    ("asked", "status", "start", "end"),
    [
        ("", 200, 0, len(CONTENT)),
        ("bytes=0-0", 206, 0, 1),
        ("bytes=5-", 206, 5, len(CONTENT)),
        (f"bytes={PIECE - 1}-{PIECE + 1}", 206, PIECE - 1, PIECE + 2),
        (f"bytes=1-{10**9}", 206, 1, len(CONTENT)),
    ],
)
def test_ranges(server: Registry, asked: str, status: int, start: int, end: int) -> None:
    headers = {"Range": asked} if asked else {}
    with asking(server, "GET", BLOB, None, headers) as response:
        assert response.status == status
        assert response.read() == CONTENT[start:end]
        span = response.headers["Content-Range"]
    assert span == (f"bytes {start}-{end - 1}/{len(CONTENT)}" if asked else None)
    assert server.served.total(digest_of(CONTENT)) == end - start


def test_a_range_beyond_the_end(server: Registry) -> None:
    with asking(server, "GET", BLOB, None, {"Range": f"bytes={len(CONTENT)}-"}) as response:
        assert response.status == 416
        assert response.headers["Content-Range"] == f"bytes */{len(CONTENT)}"


def test_a_head_tells_the_size(server: Registry) -> None:
    with asking(server, "HEAD", BLOB) as response:
        assert (response.status, response.headers["Content-Length"]) == (200, str(len(CONTENT)))
        assert response.read() == b""


def test_bytes_served_twice_are_counted(server: Registry) -> None:
    for asked in ("bytes=0-99", "bytes=50-149", "bytes=300-399"):
        with asking(server, "GET", BLOB, None, {"Range": asked}) as response:
            response.read()
    assert server.served.twice(digest_of(CONTENT)) == 50


def test_generated_content_is_the_same_wherever_it_is_read() -> None:
    blob = Generated(3 * 1024 * 1024 + 5, "seed")
    whole = blob.read(0, blob.size)
    assert len(whole) == blob.size
    assert digest_of(whole) == blob.digest
    for start, length in ((0, 9), (1024 * 1024 - 3, 11), (2**20 * 3, 99), (77, 2**21)):
        assert blob.read(start, length) == whole[start : start + length]
    assert Generated(blob.size, "other").digest != blob.digest


# Uploads


def opened(server: Registry, query: str = "") -> str:
    with asking(server, "POST", f"/v2/a/b/blobs/uploads/{query}") as response:
        assert response.status == 202
        return str(response.headers["Location"])


def patched(server: Registry, location: str, start: int, content: bytes) -> HTTPResponse:
    span = {"Content-Range": f"{start}-{start + len(content) - 1}"}
    with asking(server, "PATCH", location, content, span) as response:
        response.read()
        return response


def test_chunks_go_where_the_last_one_ended(server: Registry) -> None:
    content = b"some" + CONTENT
    first = patched(server, opened(server), 0, content[:100])
    assert (first.status, first.headers["Range"]) == (202, "0-99")
    assert patched(server, first.headers["Location"], 99, content[99:200]).status == 416
    second = patched(server, first.headers["Location"], 100, content[100:])
    end = f"{second.headers['Location']}&digest={digest_of(content)}"
    assert status_of(server, "PUT", end) == 201
    assert server.blobs[digest_of(content)] == content
    assert status_of(server, "PUT", end) == 404


def test_an_upload_tells_how_far_it_is(server: Registry) -> None:
    location = opened(server)
    patched(server, location, 0, CONTENT)
    with asking(server, "GET", location) as response:
        assert (response.status, response.headers["Range"]) == (204, f"0-{len(CONTENT) - 1}")
        assert response.headers["Location"].endswith(f"state={len(CONTENT)}")


def test_what_came_before_a_disconnect_is_kept(server: Registry) -> None:
    location = opened(server)
    server.faults.append(("PATCH", faults.disconnect(PIECE + 3)))
    with pytest.raises((HTTPException, OSError)):
        patched(server, location, 0, CONTENT)
    with asking(server, "GET", location) as response:
        assert response.headers["Range"] == f"0-{PIECE + 2}"


def test_small_chunks_are_refused_where_a_least_size_is_set(server: Registry) -> None:
    server.min_chunk = 1000
    first = patched(server, opened(server), 0, CONTENT[:10])
    assert patched(server, first.headers["Location"], 10, CONTENT[10:]).status == 416


def test_a_wrong_digest_is_refused(server: Registry) -> None:
    location = f"{opened(server)}&digest={digest_of(b'other')}"
    assert status_of(server, "PUT", location, b"this") == 400
    assert digest_of(b"this") not in server.blobs


def test_a_large_upload_lies_in_a_file(server: Registry) -> None:
    blob = Generated(20 * 1024 * 1024)
    location = f"{opened(server)}&digest={blob.digest}"
    assert status_of(server, "PUT", location, blob.read(0, blob.size)) == 201
    assert not isinstance(server.blobs[blob.digest], bytes)
    with asking(server, "GET", f"/v2/a/b/blobs/{blob.digest}") as response:
        assert digest_of(response.read()) == blob.digest


def test_mounts(server: Registry) -> None:
    server.separate = True
    server.links.add(("c/d", digest_of(CONTENT)))
    assert status_of(server, "HEAD", BLOB) == 404
    opened(server, f"?mount={digest_of(CONTENT)}&from=e/f")
    with asking(
        server, "POST", f"/v2/a/b/blobs/uploads/?mount={digest_of(CONTENT)}&from=c/d"
    ) as response:
        assert response.status == 201
    assert status_of(server, "HEAD", BLOB) == 200


def test_a_manifest_goes_last(server: Registry) -> None:
    manifest = json.dumps({"config": {"digest": digest_of(b"none")}, "layers": []}).encode()
    assert status_of(server, "PUT", "/v2/a/b/manifests/1", manifest) == 400
    server.add_blob(b"none")
    assert status_of(server, "PUT", "/v2/a/b/manifests/1", manifest) == 201
    assert status_of(server, "GET", f"/v2/a/b/manifests/{digest_of(manifest)}") == 200


@pytest.mark.parametrize("path", ["/v2/_catalog", "/v2/a/b/tags/list"])
def test_listings_come_in_pages(server: Registry, path: str) -> None:
    for n in range(5):
        server.manifests[f"a/b/{n}"] = server.manifests[f"r/{n}/latest"] = b"{}"
    found: list[str] = []
    url, pages = f"{path}?n=2", 0
    while url:
        with asking(server, "GET", url) as response:
            document = json.loads(response.read())
            url = response.headers.get("Link", "").partition(">")[0].removeprefix("<")
        found += document.get("repositories") or document["tags"]
        pages += 1
    assert pages == 3
    assert found == (["a/b", *(f"r/{n}" for n in range(5))] if "catalog" in path else list("01234"))


# What goes wrong on request


def test_a_disconnect(server: Registry) -> None:
    server.faults.append(("GET", faults.disconnect(PIECE + 1)))
    with asking(server, "GET", BLOB) as response, pytest.raises(HTTPException) as caught:
        response.read()
    assert f"IncompleteRead({PIECE + 1} bytes read" in str(caught.value)


def test_a_stall_lasts_until_it_is_released(server: Registry) -> None:
    with faults.Stall(PIECE + 1) as stall, asking_stalled(server, stall) as response:
        assert response.read(PIECE + 1) == CONTENT[: PIECE + 1]
        assert not stall.left.is_set()
        stall.release()
        assert response.read() == CONTENT[PIECE + 1 :]


def test_a_stall_ends_with_its_client(server: Registry) -> None:
    with faults.Stall(5) as stall:
        with asking_stalled(server, stall) as response:
            response.read(5)
        assert stall.left.wait(10)


@contextmanager
def asking_stalled(server: Registry, stall: faults.Stall) -> Iterator[HTTPResponse]:
    server.faults.append(("GET", stall))
    with asking(server, "GET", BLOB) as response:
        assert stall.reached.wait(10)
        yield response


@pytest.mark.parametrize(
    ("fault", "status", "body"),
    [
        (faults.whole, 200, CONTENT),
        (faults.other_range, 206, CONTENT[11:]),
        (faults.resized(3), 206, CONTENT[10:20] + bytes(3)),
        (faults.resized(-3), 206, CONTENT[10:17]),
        (faults.wrong_bytes, 206, bytes([CONTENT[10] ^ 1]) + CONTENT[11:20]),
        (faults.web_page, 200, faults.PAGE),
        (faults.status(429, retry_after=3), 429, b""),
    ],
)
def test_faults(server: Registry, fault: faults.Fault, status: int, body: bytes) -> None:
    server.lasting.append(("GET", faults.on(2, fault)))
    for number in (1, 2, 3):
        with asking(server, "GET", BLOB, None, {"Range": "bytes=10-19"}) as response:
            assert (response.status, response.read()) == (
                (status, body) if number == 2 else (206, CONTENT[10:20])
            )


def test_storage_addresses_take_no_credentials_and_expire() -> None:
    with running(Registry(storage=Storage(uses=2))) as server:
        assert server.storage
        digest = server.add_blob(CONTENT)
        with asking(server, "GET", f"/v2/a/b/blobs/{digest}") as response:
            assert response.status == 307
            place = response.headers["Location"]
        path = "/" + place.split("/", 3)[3]
        stored = Registry(port=server.storage.port)
        token = {"Authorization": "Bearer x"}
        with asking(stored, "GET", path, None, token) as response:
            assert response.status == 400
        assert [status_of(stored, "GET", path) for _ in range(3)] == [200, 200, 403]


def test_a_throttle_counts_all_connections() -> None:
    throttle, waits = Throttle(1000), [0.0]
    throttle._lifted.wait = waits.append  # type: ignore[method-assign,assignment]
    for size in (100, 200):
        throttle.passed(size)
    assert waits[1:] == pytest.approx([0.1, 0.3], abs=0.05)
    throttle.lift()
    throttle.passed(10**9)
    assert len(waits) == 3


# Independent clients


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("auth", ["", "bearer"])
@pytest.mark.parametrize("stored", [False, True])
def test_oras_and_crane_take_it_for_a_registry(tmp_path: Path, auth: str, stored: bool) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    storage = Storage() if stored else None
    with running(Registry(auth=auth, separate=True, storage=storage)) as server:
        name = f"{server.address}/a/b:1"
        run(tool("oras"), "push", "--plain-http", name, "file:text/plain", cwd=tmp_path)
        (tmp_path / "file").unlink()
        run(tool("oras"), "pull", "--plain-http", name, cwd=tmp_path)
        assert (tmp_path / "file").read_bytes() == CONTENT
        both = ("--from-plain-http", "--to-plain-http")
        run(tool("oras"), "cp", *both, name, f"{server.address}/c/d:2", cwd=tmp_path)
        assert run(tool("crane"), "ls", f"{server.address}/c/d", cwd=tmp_path) == "2\n"
        digest = run(tool("crane"), "digest", name, cwd=tmp_path).strip()
        assert digest in {digest_of(manifest) for manifest in server.manifests.values()}


def test_it_runs_in_a_process_of_its_own() -> None:
    command = [sys.executable, "-m", "tests.registry.server", "--rate", "1000000"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        port = int(process.stdout.readline().rpartition(":")[2])
        assert status_of(Registry(port=port), "GET", "/v2/") == 200
        process.stdin.close()
        assert process.wait(10) == 0


def test_its_threads_end_with_it() -> None:
    """Also those whose clients are still there and wait."""
    before = set(threading.enumerate())
    with faults.Stall(5) as stall, ExitStack() as later:
        with running(Registry()) as server:
            digest = server.add_blob(CONTENT)
            server.faults.append(("GET", stall))
            connection = later.enter_context(closing(HTTPConnection("localhost", server.port)))
            connection.request("GET", f"/v2/a/b/blobs/{digest}")
            assert stall.reached.wait(10)
            ours = set(threading.enumerate()) - before
            assert len(ours) == 2
        for thread in ours:
            thread.join(10)
        assert not any(thread.is_alive() for thread in ours)

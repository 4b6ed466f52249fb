"""Uploads: mounted, whole, in chunks, and taken up where they broke off."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from runner.errors import CorruptTransfer, RegistryError, RegistryUnauthorized, ShuttingDown
from runner.registry import upload
from runner.registry.client import RegistryClient
from runner.settings import Settings
from tests.registry import faults
from tests.registry.distribution import distribution
from tests.registry.exchange import BrokenOff, Exchange
from tests.registry.reading import whole
from tests.registry.server import Handler, Registry, digest_of, running

MIB = 1024 * 1024
CONTENT = bytes(range(256)) * 4096 * 5  # 5 MiB
DIGEST = digest_of(CONTENT)


@pytest.fixture
def client(server: Registry, settings: Settings) -> Iterator[RegistryClient]:
    with RegistryClient(server.address, settings) as client:
        yield client


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "blob"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def chunks_of_a_mebibyte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "CHUNK", MIB)


def ignore(_: int) -> None:
    """No progress."""


def send(client: RegistryClient, file: Path, *mount_from: str, digest: str = DIGEST) -> bool:
    return client.upload_blob("a/b", file, digest, ignore, mount_from)


def asked(server: Registry) -> list[str]:
    """Methods of the requests for uploads, in their order."""
    return [request.method for request in server.requests if "/uploads/" in request.path]


# Mounts


def test_a_blob_of_another_repository_is_mounted(
    server: Registry, client: RegistryClient, file: Path
) -> None:
    server.auth, server.separate = "bearer", True
    server.add_blob(CONTENT)
    server.links.add(("c/d", DIGEST))
    assert send(client, file, "e/f", "c/d")
    assert set(asked(server)) == {"POST"}
    assert ("a/b", DIGEST) in server.links
    for request in server.seen("POST", "uploads"):  # some registries don't ask for more
        (source,) = parse_qs(request.query)["from"]
        assert request.authorization == "" or source in request.authorization
    scopes = [parse_qs(r.query)["scope"] for r in server.seen("GET", "/token")]
    assert scopes[-1] == ["repository:a/b:pull,push", "repository:c/d:pull"]


def test_what_can_not_be_mounted_is_sent_in_the_upload_that_was_opened(
    server: Registry, client: RegistryClient, file: Path
) -> None:
    server.separate = True
    assert send(client, file, "c/d")
    assert asked(server) == ["POST", "PUT"]
    assert ("a/b", DIGEST) in server.links


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_a_mount_that_is_refused_costs_nothing(
    server: Registry, client: RegistryClient, file: Path, status: int
) -> None:
    server.faults.append(("POST", faults.status(status)))
    assert send(client, file, "c/d")
    assert asked(server) == ["POST", "POST", "PUT"]


def test_a_repository_that_we_may_not_read_is_not_mounted_from(
    server: Registry, client: RegistryClient, file: Path
) -> None:
    server.auth = "bearer"

    def deny(handler: Handler) -> bool:
        return "secret" in handler.path and handler.answer(401)

    server.lasting.append(("GET /token", deny))
    assert send(client, file, "secret/x")
    assert server.blobs[DIGEST] == CONTENT


# Chunks


@pytest.mark.usefixtures("chunks_of_a_mebibyte")
def test_chunks_where_the_registry_asks_for_them(
    server: Registry, client: RegistryClient, file: Path
) -> None:
    server.min_chunk = 2 * MIB
    assert send(client, file)
    assert asked(server) == ["POST", "PATCH", "PATCH", "PATCH", "PUT"]
    assert server.blobs[DIGEST] == CONTENT


@pytest.mark.usefixtures("chunks_of_a_mebibyte")
@pytest.mark.parametrize("status", [404, 405, 411, 413, 501])
def test_chunks_where_a_whole_blob_is_refused(
    server: Registry, client: RegistryClient, file: Path, status: int
) -> None:
    server.faults.append(("PUT", faults.status(status)))
    assert send(client, file)
    assert asked(server) == ["POST", "PUT", "POST", *["PATCH"] * 5, "PUT"]
    assert server.blobs[DIGEST] == CONTENT


def test_smaller_chunks_where_a_proxy_is_narrow(
    server: Registry, client: RegistryClient, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "CHUNK", 8 * MIB)

    def narrow(handler: Handler) -> bool:
        return int(handler.headers["Content-Length"]) > 2 * MIB and handler.answer(413)

    server.lasting.append(("(PUT|PATCH)", narrow))
    assert send(client, file)
    assert asked(server) == ["POST", "PUT", "POST", "PATCH", *["PATCH"] * 3, "PUT"]
    assert server.blobs[DIGEST] == CONTENT


def test_a_proxy_that_takes_nothing(server: Registry, client: RegistryClient, file: Path) -> None:
    server.lasting.append(("(PUT|PATCH)", faults.status(413)))
    with pytest.raises(RegistryError, match="answered 413"):
        send(client, file)


@pytest.mark.usefixtures("chunks_of_a_mebibyte")
def test_a_registry_that_takes_less_than_it_was_given(
    server: Registry, client: RegistryClient, file: Path
) -> None:
    server.min_chunk = 1
    first = CONTENT[: MIB // 2]

    def half(handler: Handler) -> bool:
        (opened,) = server.uploads.values()
        opened.append([first])
        list(handler.incoming())
        return handler.answer(202, b"", opened.headers)

    server.faults.append(("PATCH", half))
    assert send(client, file)
    assert server.blobs[DIGEST] == CONTENT


@pytest.mark.usefixtures("chunks_of_a_mebibyte")
@pytest.mark.parametrize("kept", ["0-0", f"0-{MIB - 1}"])
def test_a_registry_that_never_gets_further(
    server: Registry, client: RegistryClient, file: Path, kept: str
) -> None:
    server.min_chunk = 1
    server.lasting.append(("PATCH", lambda h: answer_range(h, kept)))
    with pytest.raises(RegistryError, match="keeps nothing"):
        send(client, file)
    assert asked(server).count("PATCH") <= 2 * (upload.MAX_STALLS + 1)
    assert DIGEST not in server.blobs


@pytest.mark.usefixtures("chunks_of_a_mebibyte")
def test_a_registry_that_once_falls_back(
    server: Registry, client: RegistryClient, file: Path
) -> None:
    server.min_chunk = 1
    server.lasting.append(("PATCH", faults.on(3, lambda h: answer_range(h, "0-9"))))
    assert send(client, file)
    assert server.blobs[DIGEST] == CONTENT


@pytest.mark.usefixtures("chunks_of_a_mebibyte")
@pytest.mark.parametrize("last", [MIB, len(CONTENT)])
def test_a_registry_that_has_more_than_it_was_sent(
    server: Registry, client: RegistryClient, file: Path, last: int
) -> None:
    server.min_chunk = 1
    server.lasting.append(("PATCH", lambda h: answer_range(h, f"0-{last}")))
    with pytest.raises(RegistryError, match=f"has {last + 1} bytes"):
        send(client, file)
    assert asked(server) == ["POST", "PATCH"]


def answer_range(exchange: Exchange, kept: str) -> bool:
    """Takes a chunk and says to have this, whatever was there."""
    list(exchange.incoming())
    return exchange.answer(202, b"", {"Range": kept})


def test_an_empty_blob_in_chunks(server: Registry, client: RegistryClient, tmp_path: Path) -> None:
    server.min_chunk = MIB
    (tmp_path / "empty").touch()
    assert send(client, tmp_path / "empty", digest=digest_of(b""))
    assert asked(server) == ["POST", "PUT"]


@pytest.mark.usefixtures("chunks_of_a_mebibyte")
def test_a_blob_of_one_byte_in_chunks(
    server: Registry, client: RegistryClient, tmp_path: Path
) -> None:
    server.min_chunk = 1
    (tmp_path / "one").write_bytes(b"1")
    assert send(client, tmp_path / "one", digest=digest_of(b"1"))
    assert asked(server) == ["POST", "PATCH", "PUT"]


# Interruptions


def test_a_broken_upload_goes_on_where_it_broke(
    server: Registry, client: RegistryClient, file: Path
) -> None:
    server.faults.append(("PUT", faults.disconnect(3 * MIB)))
    steps: list[int] = []
    assert client.upload_blob("a/b", file, DIGEST, steps.append)
    assert asked(server) == ["POST", "PUT", "GET", "PATCH", "PUT"]
    assert server.blobs[DIGEST] == CONTENT
    assert steps[-1] == len(CONTENT)


@pytest.mark.usefixtures("chunks_of_a_mebibyte")
def test_a_broken_chunk_goes_on_where_it_broke(
    server: Registry, client: RegistryClient, file: Path
) -> None:
    server.min_chunk = 1
    server.lasting.append(("PATCH", faults.on(2, faults.disconnect(MIB // 2))))
    assert send(client, file)
    assert asked(server) == ["POST", "PATCH", "PATCH", "GET", *["PATCH"] * 4, "PUT"]
    assert server.blobs[DIGEST] == CONTENT


def test_an_upload_that_the_registry_forgot_begins_anew(
    server: Registry, client: RegistryClient, file: Path
) -> None:
    server.faults += [
        ("PUT", faults.disconnect(3 * MIB)),
        ("GET .*/uploads/", faults.status(404)),
    ]
    assert send(client, file)
    assert asked(server) == ["POST", "PUT", "GET", "POST", "PUT"]
    assert server.blobs[DIGEST] == CONTENT


def test_a_blob_that_got_there_though_the_answer_did_not(
    server: Registry, client: RegistryClient, file: Path
) -> None:
    def swallow(handler: Handler) -> bool:
        list(handler.incoming())
        server.blobs[DIGEST] = CONTENT
        server.uploads.pop(1).forget()
        raise BrokenOff

    server.faults.append(("PUT", swallow))
    assert send(client, file)
    assert asked(server) == ["POST", "PUT", "GET"]


@pytest.mark.usefixtures("chunks_of_a_mebibyte")
def test_a_chunk_at_the_wrong_place_is_placed_anew(
    server: Registry, client: RegistryClient, file: Path
) -> None:
    server.min_chunk = 1
    server.lasting.append(("PATCH", faults.on(2, faults.status(416))))
    assert send(client, file)
    assert asked(server) == ["POST", "PATCH", "PATCH", "GET", *["PATCH"] * 4, "PUT"]
    assert server.blobs[DIGEST] == CONTENT


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_passing_failures_are_tried_again(
    server: Registry, client: RegistryClient, file: Path, status: int
) -> None:
    server.faults += [("PUT", faults.status(status, retry_after=0))] * 2
    assert send(client, file)
    assert asked(server) == ["POST", "PUT", "GET"] * 2 + ["POST", "PUT"]


def test_attempts_that_bring_nothing_are_counted(
    server: Registry, client: RegistryClient, file: Path
) -> None:
    server.lasting.append(("PUT", faults.status(503, retry_after=0)))
    with pytest.raises(RegistryError, match="answered 503"):
        send(client, file)
    assert asked(server).count("PUT") == upload.MAX_STALLS


@pytest.mark.usefixtures("chunks_of_a_mebibyte")
def test_attempts_that_bring_something_are_not(
    server: Registry, client: RegistryClient, file: Path
) -> None:
    server.min_chunk = 1
    server.lasting.append(("PATCH", faults.disconnect(MIB // 2)))
    assert send(client, file)
    assert asked(server).count("PATCH") == 2 * len(CONTENT) // MIB
    assert server.blobs[DIGEST] == CONTENT


def test_a_long_wait_is_left_to_the_person(
    server: Registry, client: RegistryClient, file: Path
) -> None:
    server.lasting.append(("PUT", faults.status(429, retry_after=3600)))
    with pytest.raises(RegistryError, match="wait 3600 s"):
        send(client, file)
    assert asked(server) == ["POST", "PUT"]


def test_a_token_that_expires_between_chunks_is_renewed(
    server: Registry, client: RegistryClient, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "CHUNK", MIB)
    server.auth, server.min_chunk = "bearer", 1

    def expire(_: Exchange) -> bool:
        server.tokens.clear()
        return False

    server.lasting.append(("PATCH", faults.on(3, expire)))
    assert send(client, file)
    assert server.blobs[DIGEST] == CONTENT


def test_a_cancelled_upload_ends_within_a_block(
    server: Registry, settings: Settings, file: Path
) -> None:
    cancelled = threading.Event()

    def stop(sent: int) -> None:
        if sent > MIB:
            cancelled.set()

    with (
        RegistryClient(server.address, settings, cancelled=cancelled) as client,
        pytest.raises(ShuttingDown),
    ):
        client.upload_blob("a/b", file, DIGEST, stop)
    assert DIGEST not in server.blobs


# Where to


def elsewhere(handler: Handler, registry: Registry, taken: list[str]) -> bool:
    content = b"".join(handler.incoming())
    taken.append(handler.headers.get("Authorization", ""))
    registry.blobs[digest_of(content)] = content
    return handler.answer(201)


def test_an_upload_may_go_on_at_another_path(
    server: Registry, client: RegistryClient, file: Path
) -> None:
    """Its token is the repository's, though the path does not say so."""
    server.auth = "bearer"
    taken: list[str] = []
    place = {"Location": "/other/blobs/uploads/1?a=b%2Fc"}
    server.lasting += [
        (
            "POST .*/uploads/",
            lambda h: "Bearer" in h.headers.get("Authorization", "") and h.answer(202, b"", place),
        ),
        ("PUT /other/", lambda h: elsewhere(h, server, taken)),
    ]
    assert send(client, file)
    assert server.blobs[DIGEST] == CONTENT
    (request,) = server.seen("PUT", "/other/")
    assert parse_qs(request.query) == {"a": ["b/c"], "digest": [DIGEST]}
    assert taken[0].endswith("|repository:a/b:pull,push")


def test_another_host_gets_no_token(server: Registry, client: RegistryClient, file: Path) -> None:
    server.auth = "bearer"
    taken: list[str] = []
    with running(Registry()) as storage:
        place = {"Location": f"http://{storage.address}/other/blobs/uploads/1"}
        storage.lasting.append(("PUT /other/", lambda h: elsewhere(h, storage, taken)))
        server.lasting.append(
            (
                "POST .*/uploads/",
                lambda h: "Authorization" in h.headers and h.answer(202, b"", place),
            )
        )
        assert send(client, file)
        assert storage.blobs[DIGEST] == CONTENT
    assert taken == [""]


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://elsewhere/x"])
def test_places_that_are_none(
    server: Registry, client: RegistryClient, file: Path, place: str
) -> None:
    server.faults.append(("POST", lambda h: h.answer(202, b"", {"Location": place})))
    with pytest.raises(RegistryError, match="refused"):
        send(client, file)


@pytest.mark.parametrize(
    ("status", "reason"), [(202, "did not say where"), (201, "opened no upload")]
)
def test_a_registry_that_opens_nothing(
    server: Registry, client: RegistryClient, file: Path, status: int, reason: str
) -> None:
    server.faults.append(("POST", faults.status(status)))
    with pytest.raises(RegistryError, match=reason):
        send(client, file)


# What is sent


def test_nothing_is_read_whole(server: Registry, client: RegistryClient, file: Path) -> None:
    steps = [0]
    client.upload_blob("a/b", file, DIGEST, steps.append)
    assert steps[-1] == len(CONTENT)
    gaps = {after - before for before, after in itertools.pairwise(steps)}
    assert max(gaps) <= upload.BLOCK < len(CONTENT)


def test_other_bytes_than_the_digest_says(
    server: Registry, client: RegistryClient, file: Path
) -> None:
    with pytest.raises(CorruptTransfer, match="other bytes than sha256:") as caught:
        send(client, file, digest=digest_of(b"other"))
    assert caught.value.hint


def test_another_refusal_keeps_the_registrys_words(
    server: Registry, client: RegistryClient, file: Path
) -> None:
    words = b'{"errors":[{"code":"NAME_INVALID","message":"not like this"}]}'
    server.faults.append(("PUT", lambda h: h.answer(400, words)))
    with pytest.raises(RegistryError, match=r"answered 400 .*: not like this"):
        send(client, file)


def test_a_repository_that_is_read_only(
    server: Registry, client: RegistryClient, file: Path
) -> None:
    server.lasting.append(("PUT", faults.status(403)))
    with pytest.raises(RegistryUnauthorized):
        send(client, file)


def test_a_file_that_shrinks_meanwhile(
    server: Registry, client: RegistryClient, file: Path
) -> None:
    def shrink(sent: int) -> None:
        if sent == upload.BLOCK:
            file.write_bytes(CONTENT[: upload.BLOCK])

    with pytest.raises(CorruptTransfer, match="became shorter"):
        client.upload_blob("a/b", file, DIGEST, shrink)


# CNCF Distribution


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with distribution(tmp_path_factory.mktemp("distribution")) as address:
        yield address


@pytest.fixture
def real_client(real: str, settings: Settings, docker_config: Path) -> Iterator[RegistryClient]:
    with RegistryClient(real, settings) as client:
        yield client


def test_distribution_takes_a_whole_blob_and_mounts_it(
    real_client: RegistryClient, file: Path
) -> None:
    assert real_client.upload_blob("whole/a", file, DIGEST, ignore)
    assert not real_client.upload_blob("whole/a", file, DIGEST, ignore)
    file.unlink()
    file.touch()
    assert real_client.upload_blob("whole/b", file, DIGEST, ignore, ["none/here", "whole/a"])
    assert whole(real_client, "whole/b", DIGEST) == CONTENT
    assert set(real_client.catalog()) >= {"whole/a", "whole/b"}


def test_distribution_takes_chunks(
    real_client: RegistryClient, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "CHUNK", 2 * MIB)
    begin = upload.Upload._begin

    def begin_in_chunks(self: upload.Upload, response: object) -> None:
        begin(self, response)  # type: ignore[arg-type]
        self._chunk = upload.CHUNK

    monkeypatch.setattr(upload.Upload, "_begin", begin_in_chunks)
    assert real_client.upload_blob("chunks/a", file, DIGEST, ignore)
    assert whole(real_client, "chunks/a", DIGEST) == CONTENT


def test_distribution_forgets_what_breaks_and_is_given_it_anew(
    real_client: RegistryClient, file: Path
) -> None:
    broken: list[int] = []

    def cut_once(sent: int) -> None:
        if sent > MIB and not broken:
            broken.append(sent)
            raise ConnectionResetError

    assert real_client.upload_blob("broken/a", file, DIGEST, cut_once)
    assert broken
    assert whole(real_client, "broken/a", DIGEST) == CONTENT


def test_distribution_refuses_other_bytes(real_client: RegistryClient, file: Path) -> None:
    with pytest.raises(CorruptTransfer):
        real_client.upload_blob("wrong/a", file, digest_of(b"other"), ignore)

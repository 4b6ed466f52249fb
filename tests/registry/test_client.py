"""The client against a registry that enforces scopes, redirects, breaks off and lies."""

from __future__ import annotations

import hashlib
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.errors import (
    CorruptTransfer,
    ModelNotFound,
    RegistryError,
    RegistryUnauthorized,
    ShuttingDown,
)
from runner.registry import pages
from runner.registry.client import RegistryClient
from runner.registry.media import OCI_MANIFEST
from runner.registry.reference import Reference
from runner.settings import Proxy, Settings
from tests.registry import faults
from tests.registry.conftest import Login
from tests.registry.reading import whole
from tests.registry.server import Handler, Registry, digest_of, running
from tests.support.tools import tool

CONTENT = bytes(range(256)) * 16384
MANIFEST = b'{"schemaVersion":2}'


@pytest.fixture
def client(server: Registry, settings: Settings) -> Iterator[RegistryClient]:
    with RegistryClient(server.address, settings) as client:
        yield client


def reference(server: Registry, tag: str = "1") -> Reference:
    return Reference(server.address, "a/b", tag)


def ignore(_: int) -> None:
    """No progress."""


def blob(client: RegistryClient, digest: str, repository: str = "a/b") -> bytes:
    return whole(client, repository, digest)


def upload(client: RegistryClient, folder: Path, content: bytes, repository: str = "a/b") -> bool:
    path = folder / "blob"
    path.write_bytes(content)
    return client.upload_blob(repository, path, digest_of(content), ignore)


def test_manifests_go_and_come_byte_for_byte(server: Registry, client: RegistryClient) -> None:
    digest = client.put_manifest(reference(server), MANIFEST, "application/x")
    found = client.get_manifest(reference(server))
    assert (found.content, found.digest) == (MANIFEST, digest)
    assert digest == f"sha256:{hashlib.sha256(MANIFEST).hexdigest()}"


def test_blobs_go_once_and_come_back(
    server: Registry, client: RegistryClient, tmp_path: Path
) -> None:
    assert upload(client, tmp_path, CONTENT)
    assert not upload(client, tmp_path, CONTENT)
    assert len(server.seen("PUT", "uploads")) == 1
    assert blob(client, digest_of(CONTENT)) == CONTENT
    assert client.has_blob("a/b", digest_of(CONTENT))
    assert not client.has_blob("a/b", digest_of(b"other"))


def test_an_empty_blob(server: Registry, client: RegistryClient, tmp_path: Path) -> None:
    assert upload(client, tmp_path, b"")
    assert server.blobs[digest_of(b"")] == b""
    assert client.has_blob("a/b", digest_of(b""))


def test_uploads_tell_how_far_they_are(
    server: Registry, client: RegistryClient, tmp_path: Path
) -> None:
    steps: list[int] = []
    (tmp_path / "blob").write_bytes(CONTENT)
    client.upload_blob("a/b", tmp_path / "blob", digest_of(CONTENT), steps.append)
    assert steps[-1] == len(CONTENT)
    assert steps == sorted(steps)


# Authorization


def test_scopes_are_asked_for_as_needed(
    server: Registry, client: RegistryClient, tmp_path: Path
) -> None:
    """A pull token first, then one that may push, then one for another repository."""
    server.auth = "bearer"
    digest = server.add_blob(CONTENT)
    assert blob(client, digest) == CONTENT
    assert upload(client, tmp_path, b"new")
    assert blob(client, digest, "c/d") == CONTENT
    scopes = [request.query.partition("scope=")[2] for request in server.seen("GET", "/token")]
    assert scopes == [
        "repository%3Aa%2Fb%3Apull",
        "repository%3Aa%2Fb%3Apull%2Cpush",
        "repository%3Ac%2Fd%3Apull",
    ]


def test_many_threads_fetch_one_token(server: Registry, client: RegistryClient) -> None:
    server.auth = "bearer"
    digest = server.add_blob(CONTENT)
    results: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: results.append(blob(client, digest))) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == [CONTENT] * 16
    assert len(server.seen("GET", "/token")) == 1


def test_an_expired_token_is_renewed(
    server: Registry, client: RegistryClient, tmp_path: Path
) -> None:
    server.auth = "bearer"
    digest = server.add_blob(CONTENT)
    blob(client, digest)
    server.tokens.clear()
    assert blob(client, digest) == CONTENT


def test_an_upload_is_sent_again_after_a_renewal(
    server: Registry, client: RegistryClient, tmp_path: Path
) -> None:
    server.auth = "bearer"

    def expire(_: Handler) -> bool:
        server.tokens.clear()
        return False

    server.faults.append(("PUT .*/uploads/1", expire))
    assert upload(client, tmp_path, CONTENT)
    assert server.blobs[digest_of(CONTENT)] == CONTENT


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_credentials_of_docker_login(
    server: Registry, client: RegistryClient, login: Login, auth: str
) -> None:
    server.auth, server.anonymous = auth, False
    login(server.address)
    assert blob(client, server.add_blob(CONTENT)) == CONTENT


def test_identity_tokens(server: Registry, client: RegistryClient, login: Login) -> None:
    server.auth, server.anonymous = "bearer", False
    login(server.address, identity=True)
    assert blob(client, server.add_blob(CONTENT)) == CONTENT
    (request,) = server.seen("POST", "/token")
    assert b"grant_type=refresh_token" in request.body


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_no_credentials_say_what_to_do(server: Registry, client: RegistryClient, auth: str) -> None:
    server.auth, server.anonymous = auth, False
    with pytest.raises(RegistryUnauthorized) as caught:
        client.get_manifest(reference(server))
    assert caught.value.hint.endswith(f"runner login {server.address}")
    assert "needs a login" in caught.value.message


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_wrong_credentials(
    server: Registry, client: RegistryClient, login: Login, auth: str
) -> None:
    server.auth = auth
    login(server.address, password="wrong")
    with pytest.raises(RegistryUnauthorized, match="refuses"):
        client.get_manifest(reference(server))


def test_a_denial(server: Registry, client: RegistryClient) -> None:
    server.faults.append(("GET .*/manifests/", lambda h: h.answer(403)))
    with pytest.raises(RegistryUnauthorized):
        client.get_manifest(reference(server))


@pytest.mark.parametrize(
    "realm",
    ["http://10.0.0.1/token", "https://169.254.169.254/", "http://elsewhere.example/", "ftp://x/"],
)
def test_logins_are_not_sent_just_anywhere(
    server: Registry, client: RegistryClient, login: Login, realm: str
) -> None:
    server.auth, server.realm = "bearer", realm
    login(server.address)
    with pytest.raises(RegistryError, match="refused"):
        client.get_manifest(reference(server))


def test_redirects_leave_our_token_behind(server: Registry, client: RegistryClient) -> None:
    server.auth = "bearer"
    digest = server.add_blob(CONTENT)
    with running(Registry()) as storage:
        storage.blobs[digest] = CONTENT
        target = f"http://{storage.address}/v2/a/b/blobs/{digest}"
        server.lasting.append(
            (
                "GET .*/blobs/",
                lambda h: "Authorization" in h.headers and h.answer(307, b"", {"Location": target}),
            )
        )
        assert blob(client, digest) == CONTENT
        (request,) = storage.requests
    assert request.authorization == ""
    assert server.requests[-1].authorization.startswith("Bearer ")


def test_a_challenge_from_elsewhere_is_not_answered(
    server: Registry, client: RegistryClient, login: Login
) -> None:
    login(server.address)
    digest = digest_of(CONTENT)
    with running(Registry(auth="basic")) as storage:
        target = f"http://{storage.address}/v2/a/b/blobs/{digest}"
        server.lasting.append(("GET .*/blobs/", lambda h: h.answer(307, b"", {"Location": target})))
        with pytest.raises(RegistryUnauthorized):
            blob(client, digest)
        assert [request.authorization for request in storage.requests] == [""]


def test_redirects_in_circles(server: Registry, client: RegistryClient) -> None:
    server.lasting.append(("GET", lambda h: h.answer(302, b"", {"Location": h.path})))
    with pytest.raises(RegistryError, match="circles"):
        client.get_manifest(reference(server))


def test_redirects_to_files(server: Registry, client: RegistryClient) -> None:
    target = {"Location": "file:///etc/passwd"}
    server.lasting.append(("GET", lambda h: h.answer(302, b"", target)))
    with pytest.raises(RegistryError, match="refused"):
        client.get_manifest(reference(server))


# Failures that pass, and failures that last


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_passing_failures_are_tried_again(
    server: Registry, client: RegistryClient, status: int
) -> None:
    server.manifests["a/b/1"] = MANIFEST
    wait = {"Retry-After": "0"}
    server.faults += [("GET", lambda h: h.answer(status, b"", wait))] * 3
    assert client.get_manifest(reference(server)).content == MANIFEST


def test_retry_after_is_honoured(server: Registry, client: RegistryClient) -> None:
    server.manifests["a/b/1"] = MANIFEST
    server.faults.append(("GET", lambda h: h.answer(429, b"", {"Retry-After": "1"})))
    started = time.monotonic()
    client.get_manifest(reference(server))
    assert time.monotonic() - started >= 1


def test_a_long_wait_is_left_to_the_person(server: Registry, client: RegistryClient) -> None:
    server.lasting.append(("GET", lambda h: h.answer(429, b"", {"Retry-After": "3600"})))
    with pytest.raises(RegistryError, match="wait 3600 s"):
        client.get_manifest(reference(server))


def test_lasting_failures_end_with_the_registrys_words(
    server: Registry, client: RegistryClient
) -> None:
    words = b'{"errors":[{"code":"UNKNOWN","message":"the disk\\nis gone"}]}'
    server.lasting.append(("GET", lambda h: h.answer(500, words, {"Retry-After": "0"})))
    with pytest.raises(RegistryError, match=r"answered 500 .*: the disk is gone"):
        client.get_manifest(reference(server))
    assert len(server.requests) == 5


def test_error_bodies_are_capped(server: Registry, client: RegistryClient) -> None:
    sent = threading.Event()

    def endless(handler: Handler) -> bool:
        handler.send_response(400)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(bytes(65536))
        except OSError:
            sent.set()
        handler.close_connection = True
        return True

    server.faults.append(("GET", endless))
    with pytest.raises(RegistryError, match="answered 400"):
        client.get_manifest(reference(server))
    assert sent.wait(10)


def test_a_registry_that_is_not_there(settings: Settings, docker_config: Path) -> None:
    with running(Registry()) as gone:
        address = gone.address
    with (
        RegistryClient(address, settings) as client,
        pytest.raises(RegistryError, match=f"can't reach {address}: Connection refused") as caught,
    ):
        client.get_manifest(Reference(address, "a/b", "1"))
    assert caught.value.hint


def test_https_that_is_none(server: Registry, settings: Settings) -> None:
    with (
        over_tls(server, settings) as client,
        pytest.raises(RegistryError, match="no trusted TLS") as caught,
    ):
        client.get_manifest(reference(server))
    assert "insecure_registries" in caught.value.hint


def test_a_private_authority_is_trusted(tmp_path: Path, docker_config: Path) -> None:
    certificate, key = tmp_path / "ca.pem", tmp_path / "key.pem"
    command = [tool("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with running(Registry(), context) as server:
        server.manifests["a/b/1"] = MANIFEST
        with over_tls(server, Settings(ca_file=certificate)) as client:
            assert client.get_manifest(reference(server)).content == MANIFEST
        with (
            over_tls(server, Settings()) as client,
            pytest.raises(RegistryError, match="no trusted TLS"),
        ):
            client.get_manifest(reference(server))


def over_tls(server: Registry, settings: Settings) -> RegistryClient:
    """A client of localhost speaks plain http; no other name leads to the test's server."""
    client = RegistryClient(server.address, settings)
    client._session.prefix = "https"
    client._session.http.base_url = f"https://{server.address}"
    return client


def test_proxies_of_the_settings_are_used(docker_config: Path) -> None:
    with running(Registry()) as proxy:
        proxy.lasting.append(("GET", lambda h: h.answer(200, b"{}")))
        settings = Settings(
            proxy=Proxy(http=f"http://{proxy.address}"), insecure_registries=("r.example",)
        )
        with RegistryClient("r.example", settings) as client:
            client.get_manifest(Reference("r.example", "a/b", "1"))
        assert [request.path for request in proxy.requests] == ["/v2/a/b/manifests/1"]


def test_a_missing_manifest(server: Registry, client: RegistryClient) -> None:
    with pytest.raises(ModelNotFound, match="a/b:1 is not at localhost"):
        client.get_manifest(reference(server))


def test_a_web_page_instead_of_a_manifest(server: Registry, client: RegistryClient) -> None:
    page = {"Content-Type": "text/html; charset=utf-8"}
    server.faults.append(("GET", lambda h: h.answer(200, b"<html>login", page)))
    with pytest.raises(RegistryError, match="web page"):
        client.get_manifest(reference(server))


def test_a_manifest_of_any_length_is_cut(server: Registry, client: RegistryClient) -> None:
    sent = threading.Event()

    def endless(handler: Handler) -> bool:
        try:
            return faults.endless(10**12)(handler)
        except OSError:
            sent.set()  # nobody listens any more
            return True

    server.faults.append(("GET", endless))
    with pytest.raises(RegistryError, match="larger than 4 MiB"):
        client.get_manifest(reference(server))
    assert sent.wait(30)


def test_a_manifest_is_asked_after(server: Registry, client: RegistryClient) -> None:
    assert client.head_manifest(reference(server)) is None
    digest = client.put_manifest(reference(server), MANIFEST, OCI_MANIFEST)
    assert client.head_manifest(reference(server)) == (digest, OCI_MANIFEST)
    server.faults.append(("HEAD", faults.status(200)))
    assert client.head_manifest(reference(server)) == (digest, OCI_MANIFEST)


def test_names_come_page_by_page(server: Registry, client: RegistryClient) -> None:
    server.auth, server.page = "bearer", 2
    names = [f"org/model-{number}" for number in range(5)]
    for name in names:
        server.manifests |= {f"{name}/{tag}": MANIFEST for tag in ("1", "2", "latest")}
    catalog = client.catalog()
    assert next(catalog) == names[0]
    assert len([r for r in server.seen("GET", "_catalog") if r.authorization]) == 1
    assert list(catalog) == names[1:]
    assert list(client.tags(names[0])) == ["1", "2", "latest"]
    with pytest.raises(RegistryError, match="answered 404 when asked for the tags of org/none"):
        list(client.tags("org/none"))


@pytest.mark.parametrize("body", [b"<html>", b"{}", b"[]", b'{"repositories": 1}'])
def test_a_list_that_is_none(server: Registry, client: RegistryClient, body: bytes) -> None:
    server.lasting.append(("GET", lambda h: h.answer(200, body)))
    with pytest.raises(RegistryError, match="no list of repositories"):
        list(client.catalog())


def test_a_list_of_nothing(server: Registry, client: RegistryClient) -> None:
    server.lasting.append(("GET", lambda h: h.answer(200, b'{"tags": null}')))
    assert list(client.tags("a/b")) == []


def test_lists_end(
    server: Registry, client: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MAX_PAGES", 10)
    again = {"Link": '</v2/_catalog>; rel="next"'}
    server.lasting.append(("GET", lambda h: h.answer(200, b'{"repositories": ["x"]}', again)))
    with pytest.raises(RegistryError, match="without an end"):
        list(client.catalog())


def test_lists_stay_at_their_host(server: Registry, client: RegistryClient) -> None:
    away = {"Link": '<http://elsewhere.example/v2/_catalog>; rel="next"'}
    server.lasting.append(("GET", lambda h: h.answer(200, b'{"repositories": ["x"]}', away)))
    with pytest.raises(RegistryError, match="another host"):
        list(client.catalog())


def test_a_manifest_of_another_digest(server: Registry, client: RegistryClient) -> None:
    other = Reference(server.address, "a/b", digest=digest_of(b"other"))
    server.manifests[f"a/b/{other.digest}"] = MANIFEST
    with pytest.raises(CorruptTransfer):
        client.get_manifest(other)
    header = {"Docker-Content-Digest": digest_of(b"other")}
    server.faults.append(("GET", lambda h: h.answer(200, MANIFEST, header)))
    with pytest.raises(CorruptTransfer):
        client.get_manifest(reference(server))


def test_a_missing_blob(server: Registry, client: RegistryClient) -> None:
    with pytest.raises(RegistryError, match="has no blob"):
        blob(client, digest_of(b"other"))


def test_cancelling_ends_a_wait(server: Registry, settings: Settings) -> None:
    cancelled = threading.Event()

    def slow(handler: Handler) -> bool:
        handler.answer(429, b"", {"Retry-After": "50"})
        cancelled.set()
        return True

    server.lasting.append(("GET", slow))
    started = time.monotonic()
    with (
        RegistryClient(server.address, settings, cancelled=cancelled) as client,
        pytest.raises(ShuttingDown),
    ):
        client.get_manifest(reference(server))
    assert time.monotonic() - started < 10

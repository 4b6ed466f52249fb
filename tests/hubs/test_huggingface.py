"""Hugging Face's listings, by huggingface_hub through our own HTTP, against a stand-in."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from runner.errors import (
    BadReference,
    ModelNotFound,
    RegistryError,
    RegistryUnauthorized,
    RunnerError,
    ShuttingDown,
)
from runner.hubs.huggingface import list_files, source_of
from runner.hubs.listing import HubFile, Listing
from runner.hubs.session import HubSession
from runner.registry.reference import Source
from runner.registry.source import read_range
from runner.settings import Proxy, Settings
from tests.hubs.server import MODIFIED_SECONDS, TOKEN, Hub, Repository, commit_of, git_id
from tests.registry import faults
from tests.registry.content import digest_of

NAME = "org/Model-GGUF"
FILES = {"README.md": b"# Model\n", "sub/model-Q4_K_M.gguf": b"weights" * 1000, "empty.txt": b""}


@pytest.fixture(autouse=True)
def repository(hub: Hub) -> Repository:
    return hub.add(NAME, FILES)


def listed(settings: Settings, revision: str = "", *, name: str = NAME, token: str = "") -> Listing:
    with_token = HubSession(Source.HUGGING_FACE, settings, token=token)
    with closing(with_token) as session:
        return list_files(session, name, revision)


def content(settings: Settings, file: HubFile, *, token: str = "") -> bytes:
    with closing(HubSession(Source.HUGGING_FACE, settings, token=token)) as session:
        listing = list_files(session, NAME)
        return read_range(source_of(session, listing, file), file.size)


def refused(settings: Settings, *, name: str = NAME, token: str = "") -> RunnerError:
    with pytest.raises(RunnerError) as caught:
        listed(settings, name=name, token=token)
    return caught.value


def test_a_listing_is_of_one_commit(settings: Settings, hub: Hub) -> None:
    found = listed(settings)
    assert found == Listing(
        repository=NAME,
        page=f"{hub.endpoint}/{NAME}",
        commit=commit_of(NAME),
        modified=MODIFIED_SECONDS,
        files=(
            HubFile("README.md", 8, git_id=git_id(FILES["README.md"])),
            HubFile("empty.txt", 0, git_id=git_id(b"")),
            HubFile("sub/model-Q4_K_M.gguf", 7000, digest_of(FILES["sub/model-Q4_K_M.gguf"])),
        ),
    )
    assert hub.seen(f"/tree/{found.commit}")


def test_pages_are_followed(settings: Settings, hub: Hub) -> None:
    hub.page = 1
    assert [file.path for file in listed(settings).files] == sorted(FILES)
    assert len(hub.seen("/tree/")) == 4


def test_pages_end_somewhere(settings: Settings, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.hubs.door.MAX_PAGES", 5)
    link = {"Link": f'<{hub.endpoint}/api/models/{NAME}/tree/x>; rel="next"'}
    hub.lasting.append(("/tree/", lambda exchange: exchange.answer(200, b"[]", link)))
    with pytest.raises(RegistryError, match="no end of pages"):
        listed(settings)
    assert len(hub.seen("/tree/")) == 4


def test_a_revision_is_resolved_first(settings: Settings, hub: Hub, repository: Repository) -> None:
    older = commit_of("older")
    repository.commits = {older: {"old.gguf": b"old"}, **repository.commits}
    assert listed(settings, "main").commit == commit_of(NAME)
    found = listed(settings, older)
    assert (found.commit, [file.path for file in found.files]) == (older, ["old.gguf"])


def test_an_unknown_revision_is_told_from_an_unknown_model(settings: Settings) -> None:
    with pytest.raises(ModelNotFound, match="no such revision"):
        listed(settings, "nonsense")


def test_strangers_are_told_what_they_may_do(settings: Settings) -> None:
    error = refused(settings, name="org/nowhere")
    assert isinstance(error, RegistryUnauthorized)
    assert "does not exist, or is private" in error.message
    assert "HF_TOKEN" in error.hint


def test_with_a_token_missing_is_missing(settings: Settings) -> None:
    error = refused(settings, name="org/nowhere", token=TOKEN)
    assert isinstance(error, ModelNotFound)
    assert "does not exist" in error.message


def test_a_private_repository_opens_with_the_token(
    settings: Settings, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.private = True
    assert isinstance(refused(settings), RegistryUnauthorized)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert listed(settings).commit == commit_of(NAME)


def test_a_wrong_token_is_called_so(settings: Settings) -> None:
    error = refused(settings, token="hf_wrong")
    assert isinstance(error, RegistryUnauthorized)
    assert "does not let your token read" in error.message
    assert "hf_wrong" not in f"{error.message} {error.hint}"


def test_gated_bytes_say_whose_terms_to_accept(
    settings: Settings, hub: Hub, repository: Repository
) -> None:
    repository.gated = True
    weights = listed(settings).files[-1]
    with pytest.raises(RegistryUnauthorized, match="accept its terms") as caught:
        content(settings, weights)
    assert f"{hub.endpoint}/{NAME}" in caught.value.hint
    assert "HF_TOKEN" in caught.value.hint
    assert content(settings, weights, token=TOKEN) == FILES["sub/model-Q4_K_M.gguf"]


def test_the_token_stays_at_the_hub(settings: Settings, hub: Hub) -> None:
    weights = listed(settings).files[-1]
    assert content(settings, weights, token=TOKEN) == FILES["sub/model-Q4_K_M.gguf"]
    assert {r.authorization for r in hub.storage.requests} == {""}
    assert hub.seen("/resolve/")[-1].authorization == f"Bearer {TOKEN}"


def test_a_listing_elsewhere_gets_no_token(settings: Settings, hub: Hub) -> None:
    """As a hub might send that was broken into."""
    elsewhere = f'<http://localhost:{hub.storage.port}/stored/x>; rel="next"'
    hub.faults.append(("/tree/", lambda exchange: exchange.answer(200, b"[]", {"Link": elsewhere})))
    with pytest.raises(RunnerError):
        listed(settings, token=TOKEN)
    assert [r.authorization for r in hub.storage.requests] == [""]


def test_no_token_goes_out_in_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(hub_endpoint="http://hub.example")
    session = HubSession(Source.HUGGING_FACE, settings, token=TOKEN)
    sent: list[str] = []

    def request(method: str, url: str, *, headers: object, authorization: str) -> None:
        sent.append(authorization)

    monkeypatch.setattr(session.http, "request", request)
    session.get("http://hub.example/api/models")
    assert sent == [""]


def test_passing_refusals_are_tried_again(settings: Settings, hub: Hub) -> None:
    hub.faults += [
        ("/api/models", faults.status(429, retry_after=0)),
        ("/tree/", faults.status(503)),
    ]
    assert listed(settings).commit == commit_of(NAME)


def test_a_lasting_429_says_what_helps(settings: Settings, hub: Hub) -> None:
    hub.lasting.append(("/api/models", faults.status(429, retry_after=3600)))
    error = refused(settings)
    assert "answered 429" in error.message
    assert "3600 s" in error.message
    assert "HF_TOKEN" in error.hint
    assert len(hub.requests) == 1


def test_broken_listings_are_asked_for_again(settings: Settings, hub: Hub) -> None:
    hub.faults.append(("/tree/", lambda exchange: exchange.break_off(b"[", 100)))
    assert listed(settings).commit == commit_of(NAME)


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>please log in</html>",
        b"[1]",
        b"[" * 100_000,
        b'[{"type":"file","path":"a.gguf","oid":"0","size":1,"lfs":{"oid":"zz","size":1,'
        b'"pointerSize":1}}]',
        b'[{"type":"file","path":"a","oid":"0","size":"many"}]',
        b'[{"type":"file","path":"a","oid":"0","size":-1}]',
        b'[{"type":"file","path":"a","oid":"0","size":1},{"type":"file","path":"a","oid":"0","size":1}]',
    ],
)
def test_other_answers_are_refused(settings: Settings, hub: Hub, answer: bytes) -> None:
    hub.lasting.append(("/tree/", lambda exchange: exchange.answer(200, answer)))
    assert isinstance(refused(settings), RegistryError)


def test_a_listing_too_long_is_refused(
    settings: Settings, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.hubs.session.MAX_DOCUMENT", 1024)
    hub.lasting.append(("/tree/", faults.endless(1024 * 1024)))
    assert "no end" in refused(settings).message


def test_a_name_that_the_hub_cannot_have(settings: Settings) -> None:
    assert isinstance(refused(settings, name="org/a--b"), BadReference)


def test_an_unreachable_hub_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.registry.http.MAX_RETRIES", 0)
    error = refused(Settings(hub_endpoint="http://localhost:1"))
    assert isinstance(error, RegistryError)
    assert "can't reach localhost:1" in error.message


def test_a_cancelled_listing_ends(settings: Settings, hub: Hub) -> None:
    cancelled = threading.Event()
    cancelled.set()
    with (
        closing(HubSession(Source.HUGGING_FACE, settings, cancelled)) as session,
        pytest.raises(ShuttingDown),
    ):
        list_files(session, NAME)
    assert not hub.requests


def test_listings_go_through_the_proxy_of_the_settings(hub: Hub) -> None:
    """The stand-in answers, as a proxy, for a host that does not exist."""
    proxied = Settings(hub_endpoint="http://hub.invalid", proxy=Proxy(http=hub.endpoint))
    assert listed(proxied).page == f"http://hub.invalid/{NAME}"
    assert hub.requests


def test_two_hubs_at_once_keep_apart(settings: Settings, hub: Hub) -> None:
    """huggingface_hub has one client for all threads."""
    found: list[str] = []
    both_in = threading.Barrier(2)

    def list_there(name: str, token: str) -> None:
        both_in.wait(10)
        found.append(f"{listed(settings, name=name, token=token).repository} {token}")

    hub.add("org/other", {"x.gguf": b"x"})
    threads = [
        threading.Thread(target=list_there, args=("org/other", TOKEN)),
        threading.Thread(target=list_there, args=(NAME, "")),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(found) == [f"{NAME} ", f"org/other {TOKEN}"]
    assert {r.authorization for r in hub.seen("org/other")} == {f"Bearer {TOKEN}"}
    assert {r.authorization for r in hub.seen(NAME)} == {""}


def test_nothing_is_told_or_written_beside(settings: Settings, hub: Hub, tmp_path: Path) -> None:
    """No telemetry, no cache, no progress bar; no token that we did not send ourselves."""
    home = tmp_path / "home"
    home.mkdir()
    script = (
        "import sys\n"
        "from tests.hubs.test_huggingface import NAME, listed\n"
        "from runner.settings import Settings\n"
        "listed(Settings(hub_endpoint=sys.argv[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, hub.endpoint],
        capture_output=True,
        text=True,
        env={
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path.cwd()),
            "HF_ENDPOINT": hub.endpoint,  # where the library itself would tell of us
        },
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(home.rglob("*")) == []
    assert {r.path for r in hub.requests} == {
        f"/api/models/{NAME}",
        f"/api/models/{NAME}/tree/{commit_of(NAME)}",
    }

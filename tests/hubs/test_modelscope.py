"""ModelScope's listings and bytes, against a stand-in."""

from __future__ import annotations

from contextlib import closing

import pytest

from runner.errors import ModelNotFound, RegistryError, RegistryUnauthorized
from runner.hubs.listing import HubFile, Listing
from runner.hubs.modelscope import list_files, source_of
from runner.hubs.session import HubSession
from runner.registry.reference import Source
from runner.registry.source import read_range
from runner.settings import Settings
from tests.hubs.server import MODIFIED_SECONDS, TOKEN, Hub, Repository, commit_of
from tests.registry.content import digest_of

NAME = "org/Model"
FILES = {"README.md": b"# Model\n", "sub dir/q&a-Q4_K_M.gguf": b"weights" * 1000}


@pytest.fixture(autouse=True)
def repository(hub: Hub) -> Repository:
    return hub.add(NAME, FILES)


def listed(settings: Settings, revision: str = "", *, name: str = NAME) -> Listing:
    with closing(HubSession(Source.MODELSCOPE, settings)) as session:
        return list_files(session, name, revision)


def test_a_listing_has_digests_and_the_commit(settings: Settings, hub: Hub) -> None:
    assert listed(settings) == Listing(
        repository=NAME,
        page=f"{hub.endpoint}/models/{NAME}",
        commit=commit_of(NAME),
        modified=MODIFIED_SECONDS,
        files=tuple(HubFile(p, len(c), digest_of(c)) for p, c in FILES.items()),
    )
    assert "Revision=master" in hub.requests[0].query


def test_a_revision_is_asked_for(settings: Settings, hub: Hub, repository: Repository) -> None:
    older = commit_of("older")
    repository.commits = {older: {"old.gguf": b"old"}, **repository.commits}
    found = listed(settings, older)
    assert (found.commit, [file.path for file in found.files]) == (older, ["old.gguf"])


def test_an_unknown_revision_has_no_files(settings: Settings) -> None:
    with pytest.raises(ModelNotFound, match="no revision 'main2'"):
        listed(settings, "main2")


def test_the_commit_is_the_asked_revision_where_nobody_tells_it(
    settings: Settings, hub: Hub
) -> None:
    answer = (
        b'{"Code":200,"Data":{"Files":[{"Type":"blob","Path":"a.gguf","Size":1,"Sha256":"%s"}],'
        b'"LatestCommitter":null}}' % (b"0" * 64)
    )
    hub.lasting.append(("/repo/files", lambda exchange: exchange.answer(200, answer)))
    assert (listed(settings).commit, listed(settings).modified) == ("master", 0)
    assert listed(settings, "v1").commit == "v1"


def test_bytes_come_from_the_listed_commit(settings: Settings, hub: Hub) -> None:
    with closing(HubSession(Source.MODELSCOPE, settings)) as session:
        listing = list_files(session, NAME)
        for file in listing.files:
            assert read_range(source_of(session, listing, file), file.size) == FILES[file.path]
    assert all(f"Revision={listing.commit}" in r.query for r in hub.seen(r"/repo\?"))
    assert hub.storage.requests  # the large one was redirected


def test_a_private_repository_needs_its_own_token(
    settings: Settings, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.private = True
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(RegistryUnauthorized) as caught:
        listed(settings)
    assert "MODELSCOPE_API_TOKEN" in caught.value.hint
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", TOKEN)
    assert listed(settings).files


@pytest.mark.parametrize(
    "answer",
    [
        b"<html></html>",
        b"[]",
        b'{"Code":200,"Data":null}',
        b'{"Data":{"Files":{"a":1}}}',
        b'{"Data":{"Files":[{"Type":"blob","Path":"a","Size":1}]}}',
        b'{"Data":{"Files":[{"Type":"blob","Path":1,"Size":1,"Sha256":"%s"}]}}' % (b"0" * 64),
        b'{"Data":{"Files":[{"Type":"blob","Path":"a","Size":-1,"Sha256":"%s"}]}}' % (b"0" * 64),
        b"[" * 100_000,
    ],
)
def test_other_answers_are_refused(settings: Settings, hub: Hub, answer: bytes) -> None:
    hub.lasting.append(("/repo/files", lambda exchange: exchange.answer(200, answer)))
    with pytest.raises(RegistryError, match="does not answer as ModelScope"):
        listed(settings)

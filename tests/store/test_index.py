"""models.json: quick for thousands of models, and its predecessor kept."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner.artifacts.artifact import ModelConfig
from runner.artifacts.media import ModelFormat
from runner.errors import Conflict
from runner.store.index import Index
from runner.store.lock import StoreLock
from runner.store.store import ModelStore
from runner.store.stored import StoredModel


def digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def entry(number: int, *tags: str) -> StoredModel:
    return StoredModel(
        id=digest(f"model {number}"),
        tags=tags or (f"docker.io/ai/model{number}:latest",),
        files=(digest(f"config {number}"), digest(f"weights {number}")),
        created=number,
        size=10**9 + number,
        config=ModelConfig(
            ModelFormat.GGUF, "Q4_K_M", "7.24B", "llama", "4.07GiB", 4096, pickles=number == 1
        ),
    )


def index(root: Path, *entries: StoredModel) -> Index:
    lock = StoreLock(root)
    made = Index(root, lock)
    with lock.held():
        made.write(entries)
    return made


def test_what_is_written_is_read(tmp_path: Path) -> None:
    entries = (entry(1, "docker.io/ai/é:latest"), entry(2), entry(3, "a", "b"))
    made = index(tmp_path, *entries)
    assert made.entries() == entries
    assert Index(tmp_path, StoreLock(tmp_path)).entries() == entries


def test_an_index_is_read_once_while_it_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = index(tmp_path, entry(1))
    first = made.entries()
    assert made.entries() is first
    index(tmp_path, entry(2))
    assert made.entries() == (entry(2),)


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b"\xff",
        b'{"models":[{"id":1,"tags":[],"files":[]}]}',
        b'{"models":[{"tags":[],"files":[]}]}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_index_is_said(tmp_path: Path, content: bytes) -> None:
    made = index(tmp_path, entry(1))
    (tmp_path / "models.json").write_bytes(content)
    with pytest.raises(Conflict, match=r"models\.json") as caught:
        made.entries()
    assert caught.value.hint.startswith("runner check --repair")


def test_a_newer_program_may_have_written_more(tmp_path: Path) -> None:
    made = index(tmp_path, entry(1))
    document = json.loads((tmp_path / "models.json").read_text())
    document["later"] = document["models"][0]["later"] = {"x": [1]}
    (tmp_path / "models.json").write_text(json.dumps(document))
    assert made.entries() == (entry(1),)


def test_the_names_of_the_list_before_are_kept(tmp_path: Path) -> None:
    made = index(tmp_path, entry(1))
    assert made.last_names() == {entry(1).id: entry(1).tags}
    index(tmp_path, entry(1), entry(2))
    assert made.last_names() == {e.id: e.tags for e in (entry(1), entry(2))}
    (tmp_path / "models.json").write_text("{")
    assert made.last_names() == {entry(1).id: entry(1).tags}
    (tmp_path / "models.json.previous").write_text("{")
    assert made.last_names() == {}


def test_names_of_both_lists_are_kept(tmp_path: Path) -> None:
    index(tmp_path, entry(1, "a", "b"), entry(2, "c"))
    made = index(tmp_path, entry(3, "b"))
    assert made.last_names() == {entry(1).id: ("a",), entry(2).id: ("c",), entry(3).id: ("b",)}


@pytest.mark.parametrize("left", ["models.json.previous", f"manifests/sha256/{'0' * 64}"])
def test_a_list_that_is_gone_is_not_an_empty_one(tmp_path: Path, left: str) -> None:
    made = Index(tmp_path, StoreLock(tmp_path))
    assert made.entries() == ()
    (tmp_path / left).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / left).write_text("{}")
    with pytest.raises(Conflict, match="is gone") as caught:
        made.entries()
    assert caught.value.hint.startswith("runner check --repair")


def test_names_are_kept_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    made = index(tmp_path, entry(1))
    index(tmp_path, entry(2))
    (tmp_path / "models.json").unlink()
    assert made.last_names() == {entry(1).id: entry(1).tags}


def test_listing_reads_the_index_alone(tmp_path: Path) -> None:
    """No manifest, no config, no blob: there are none here."""
    store = ModelStore(tmp_path)
    index(tmp_path, *(entry(number) for number in range(10_000)))
    models = store.list()
    assert len(models) == 10_000
    assert models[1].config.pickles
    assert models[7].size == 10**9 + 7


def test_ten_thousand_models_on_the_command_line(home: Path) -> None:
    index(home / "models", *(entry(number) for number in range(10_000)))
    found = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "runner", "ls"],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = found.stdout.splitlines()
    assert len(lines) == 10_001
    assert lines[10_000].split()[0] == "ai/model9999"
    imported = {line.rpartition("|")[2].strip() for line in found.stderr.splitlines()}
    slow = {"pydantic", "yaml", "requests", "oras", "docker", "httpx", "http.client", "rich"}
    assert imported & slow == set()

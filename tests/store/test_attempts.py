"""How often a model is entered whose files another process removes meanwhile."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runner.errors import BadModelFile, Conflict
from runner.registry.reference import Reference
from runner.store.attempts import ATTEMPTS, Attempts
from runner.store.store import ModelStore
from runner.store.stored import StoredModel
from tests.artifacts import golden
from tests.models.packaging import package_gguf
from tests.registry.content import digest_of


class Losing:
    """Work that meets with a conflict so many times, and then succeeds."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.begun = 0

    def run(self, attempts: Attempts) -> str:
        while True:
            self.begun += 1
            with attempts.one():
                self.left -= 1
                if self.left >= 0:
                    raise Conflict("a file is missing")
                return "entered"


@pytest.mark.parametrize("times", range(ATTEMPTS))
def test_a_conflict_is_passed_over(times: int) -> None:
    work = Losing(times)
    assert work.run(Attempts()) == "entered"
    assert work.begun == times + 1


def test_the_last_conflict_is_told() -> None:
    work = Losing(ATTEMPTS)
    with pytest.raises(Conflict, match="is missing"):
        work.run(Attempts())
    assert work.begun == ATTEMPTS


def test_other_errors_are_told_at_once() -> None:
    attempts = Attempts()
    with pytest.raises(BadModelFile), attempts.one():
        raise BadModelFile("broken")


@pytest.mark.parametrize(("times", "entered"), [(0, []), (1, []), (2, ["in", "out"])])
def test_only_the_last_one_has_the_context(times: int, entered: list[str]) -> None:
    seen = []

    @contextmanager
    def context() -> Iterator[None]:
        seen.append("in")
        yield
        seen.append("out")

    assert Losing(times).run(Attempts(last=context())) == "entered"
    assert seen == entered


def is_locked(store: ModelStore) -> bool:
    with (store.root / "lock").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_packaging_keeps_others_away_in_the_end(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blob is removed before every entry, as another process could: not under the lock."""
    locked = []
    commit = ModelStore.commit

    def losing(
        self: ModelStore, manifest: bytes, config: bytes, reference: Reference | None = None
    ) -> StoredModel:
        locked.append(is_locked(self))
        if not locked[-1]:
            self.blobs.remove(digest_of(golden.GGUF))
        return commit(self, manifest, config, reference)

    monkeypatch.setattr(ModelStore, "commit", losing)
    path = tmp_path / "golden.gguf"
    path.write_bytes(golden.GGUF)
    with store.lock.held():
        pass
    model = package_gguf(store, path, store.reference("a"))
    assert locked == [False, False, True]
    assert store.bundle(model.id).model_file.read_bytes() == golden.GGUF

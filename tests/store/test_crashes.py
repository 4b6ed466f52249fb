"""Killed with -9 before each step in turn: no name at missing or wrong bytes, nothing left over."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.models.package import package
from runner.models.package_order import PackageOrder
from runner.store import blobs, bundles
from runner.store.archive import export_models, import_models
from runner.store.check import ProblemKind, check
from runner.store.store import ModelStore
from tests.store.test_store import named, packaged

STEPS = ("replace", "rename", "link", "unlink", "rmdir", "mkdir", "fsync", "fchmod")
"""The calls of the system that change the store; whatever happens between two of them is one."""

Work = Callable[[ModelStore], object]


def killed_before(step: int, work: Work, store: ModelStore) -> bool:
    """Does the work in a process that dies before its step of this number; whether it died."""
    child = os.fork()
    if child == 0:
        _die_before(step)
        work(store)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def _die_before(step: int) -> None:
    left = [step]

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def replacement(*args: object, **more: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **more)

        return replacement

    for name in STEPS:
        setattr(os, name, counted(getattr(os, name)))


def link(store: ModelStore) -> None:
    package(store, PackageOrder(store.reference("c"), gguf=store.root.parent / "c.gguf", link=True))


def link_again(store: ModelStore) -> None:
    """The file was edited, and is put back from a copy."""
    path = store.root.parent / "c.gguf"
    path.unlink()
    path.write_bytes(named("c"))
    link(store)


def copy_the_linked(store: ModelStore) -> None:
    package(store, PackageOrder(store.reference("c"), gguf=store.root.parent / "c.gguf"))


WORKS: dict[str, tuple[Work, Work | None]] = {
    "package": (lambda store: packaged(store, "c", named("c")), None),
    "package over another": (lambda store: packaged(store, "a", named("b")), None),
    "link": (link, None),
    "link again": (link_again, link),
    "copy the linked": (copy_the_linked, link),
    "bundle": (lambda store: store.bundle(store.get("b").id), None),
    "tag": (lambda store: store.tag("b", store.reference("a")), None),
    "untag": (lambda store: store.remove("d"), None),
    "remove": (lambda store: store.remove("b"), None),
    "remove the linked": (lambda store: store.remove("c"), link),
    "purge": (lambda store: store.purge(), link),
    "prune": (lambda store: store.prune(everything=True), None),
    "import": (lambda store: import_models(store, store.root.parent / "x.tar"), None),
    "repair": (lambda store: check(store, repair=True), None),
}


@pytest.mark.parametrize("name", WORKS)
def test_a_kill_before_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(blobs, "ABANDONED_AFTER", -1)
    monkeypatch.setattr(bundles, "ABANDONED_AFTER", -1)
    work, before = WORKS[name]
    step = 0
    died = True
    while died:
        step += 1
        store = ModelStore(tmp_path / str(step) / "models")
        prepared(store)
        if before:
            before(store)
        died = killed_before(step, work, store)
        assert_sound(ModelStore(store.root), name)
    assert step > 1


def prepared(store: ModelStore) -> None:
    """Two models, one of them loaded before and with two names, a third in an archive, orphans."""
    store.root.parent.mkdir()
    (store.root.parent / "c.gguf").write_bytes(named("c"))
    model = packaged(store, "a", named("a"))
    store.tag("a", store.reference("d"))
    store.bundle(model.id)
    packaged(store, "b", named("b"))
    other = ModelStore(store.root.parent / "other")
    packaged(other, "c", named("c"))
    export_models(other, ["c"], store.root.parent / "x.tar")
    store.blobs.add_bytes(b"orphan")


def assert_sound(store: ModelStore, name: str) -> None:
    kinds = {problem.kind for problem in check(store).problems}
    assert kinds <= {ProblemKind.UNLISTED, ProblemKind.BUNDLE, ProblemKind.LINK}
    for digest, status in store.blobs.all():
        is_linked = os.path.samestat(status, (store.root.parent / "c.gguf").stat())
        assert not is_linked or store.blobs.links.get(digest), "an edit would go unseen"
    may_be = {"a": {"a"}, "d": {"a"}, "b": {"b"}, "c": {"c"}}
    if name in {"package over another", "tag"}:
        may_be["a"].add("b")
    for model in store.list():
        content = store.bundle(model.id).model_file.read_bytes()
        for tag in model.tags:
            short = tag.removeprefix("docker.io/ai/").removesuffix(":latest")
            assert content in {named(one) for one in may_be[short]}
    store.prune(everything=True)
    used = {digest for entry in store.index.entries() for digest in entry.files}
    assert {digest for digest, _ in store.blobs.all()} == used
    assert set(store.blobs.links.all()) <= used
    assert not list((store.root / "tmp").iterdir())
    listed = {model.id for model in store.list()}
    assert {model_id for model_id, _ in store.manifests.all()} == listed
    assert all(f"sha256:{p.name}" in listed for p in (store.root / "bundles/sha256").iterdir())
    assert not list(store.root.glob(".*"))

"""The store: names, blobs, bundles, other processes, and what a failure leaves behind."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from runner.configuration import load
from runner.errors import (
    BadInput,
    BadReference,
    BadSettings,
    Conflict,
    CorruptTransfer,
    DiskFull,
    ModelNotFound,
    SchemaTooNew,
)
from runner.registry.reference import Defaults, parse
from runner.store import index, leftovers
from runner.store.files import write_whole
from runner.store.partial import Partials
from runner.store.store import Addition, ModelStore, Removed, store_of
from runner.store.stored import StoredModel
from tests.artifacts import golden
from tests.models.packaging import package_gguf
from tests.weights.gguf_bytes import LLAMA, STRING, gguf


def packaged(store: ModelStore, name: str, content: bytes = golden.GGUF) -> StoredModel:
    path = store.root.parent / f"{hashlib.sha256(content).hexdigest()[:8]}.gguf"
    path.write_bytes(content)
    return package_gguf(store, path, store.reference(name))


def named(name: str) -> bytes:
    """A model of its own for each name."""
    return gguf({**LLAMA, "general.name": (STRING, name)})


def files(folder: Path) -> set[str]:
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return found - {"lock", "layout.json", "models.json", "models.json.previous"}


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_a_store_that_is_not_there_is_empty(store: ModelStore) -> None:
    assert store.list() == ()
    assert store.generation() == (0, 0, 0)
    assert not store.root.exists()


@pytest.mark.parametrize(
    "spelling",
    ["ai/demo", "demo", "ai/demo:latest", "docker.io/ai/demo", "index.docker.io/ai/demo:latest"],
)
def test_every_spelling_finds_the_model(store: ModelStore, spelling: str) -> None:
    model = packaged(store, "demo")
    assert model.tags == ("docker.io/ai/demo:latest",)
    assert store.get(spelling) == model
    assert store.get(parse(spelling)) == model


def test_ids_find_the_model(store: ModelStore) -> None:
    model = packaged(store, "demo")
    digits = model.id.removeprefix("sha256:")
    for name in (model.id, digits, digits[:12], f"sha256:{digits[:12]}", f"ai/demo@{model.id}"):
        assert store.get(name) == model


def test_a_missing_model_says_what_to_do(store: ModelStore) -> None:
    packaged(store, "ai/smollm2")
    with pytest.raises(ModelNotFound) as caught:
        store.get("ai/smolm2")
    assert caught.value.hint == "did you mean ai/smollm2? Else: `runner ls` lists the models here"
    with pytest.raises(ModelNotFound) as caught:
        store.get("localhost:5000/other:1")
    assert caught.value.hint == "`runner ls` lists the models here"
    with pytest.raises(ModelNotFound, match="no model here has the ID"):
        store.get("sha256:" + "0" * 64)
    with pytest.raises(BadReference):
        store.get("not a reference")


def test_defaults_are_the_settings(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "m", Defaults(registry="r.example", organisation="org"))
    assert packaged(store, "demo").tags == ("r.example/org/demo:latest",)
    assert store.get("demo").tags == ("r.example/org/demo:latest",)


def test_list_is_the_summary_and_get_the_whole(store: ModelStore) -> None:
    model = packaged(store, "demo")
    (listed,) = store.list()
    assert listed.config.metadata == {}
    assert listed.config.quantization == model.config.quantization == "F16"
    assert store.get("demo").config.metadata["llama.context_length"] == "256"
    assert (listed.id, listed.size, listed.created) == (model.id, len(golden.GGUF), 0)


def test_tags_move_and_are_added(store: ModelStore) -> None:
    first, second = packaged(store, "a", named("a")), packaged(store, "b", named("b"))
    store.tag("b", store.reference("a"))
    assert store.get("a").id == second.id
    assert store.get(first.id).tags == ()
    assert store.get("b").tags == ("docker.io/ai/b:latest", "docker.io/ai/a:latest")
    with pytest.raises(ModelNotFound):
        store.tag("nothing", store.reference("a"))
    with pytest.raises(BadReference):
        store.tag("b", store.reference(f"a@{first.id}"))


def test_packaging_under_a_taken_name_moves_it(store: ModelStore) -> None:
    first, second = packaged(store, "a", named("a")), packaged(store, "a", named("b"))
    assert store.get("a").id == second.id
    assert store.get(first.id).tags == ()


def test_remove_takes_the_tag_first_and_then_the_model(store: ModelStore) -> None:
    model = packaged(store, "a")
    store.tag("a", store.reference("b"))
    with pytest.raises(Conflict, match="several names"):
        store.remove(model.id)
    removed = store.remove("a")
    assert (removed.untagged, removed.deleted) == (("docker.io/ai/a:latest",), ())
    assert store.get("b").id == model.id
    store.bundle(model.id)
    removed = store.remove("b")
    assert (removed.untagged, removed.deleted) == (("docker.io/ai/b:latest",), (model.id,))
    assert files(store.root) == set()
    with pytest.raises(ModelNotFound):
        store.remove("b")


def test_force_removes_all_names(store: ModelStore) -> None:
    model = packaged(store, "a")
    store.tag("a", store.reference("b"))
    assert store.remove(model.id, force=True).deleted == (model.id,)
    assert store.list() == ()


def test_blobs_stay_while_another_model_uses_them(store: ModelStore, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(golden.GGUF)
    small = package_gguf(store, path, store.reference("small"), context_size=16)
    large = package_gguf(store, path, store.reference("large"), context_size=32)
    assert small.id != large.id
    store.remove("small")
    assert store.bundle(large.id).model_file.read_bytes() == golden.GGUF
    store.remove("large")
    assert files(store.root) == set()


def test_blobs_are_read_only_and_right(store: ModelStore) -> None:
    packaged(store, "a")
    blobs = list((store.root / "blobs" / "sha256").iterdir())
    assert len(blobs) == 2
    for blob in blobs:
        assert blob.stat().st_mode & 0o777 == 0o444
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name


def test_bundle(store: ModelStore, tmp_path: Path) -> None:
    model, template = tmp_path / "m.gguf", tmp_path / "t.jinja"
    model.write_bytes(golden.GGUF)
    template.write_bytes(golden.CHAT_TEMPLATE)
    stored = package_gguf(store, model, store.reference("a"), chat_template=template)
    bundle = store.bundle(stored.id)
    assert bundle.folder == store.root / "bundles/sha256" / stored.id[7:] / "model"
    assert {path.name for path in bundle.folder.iterdir()} == {"model.gguf", "template.jinja"}
    assert bundle.model_file.read_bytes() == golden.GGUF
    assert bundle.chat_template is not None
    assert bundle.chat_template.read_bytes() == golden.CHAT_TEMPLATE
    assert bundle.mmproj is None
    assert bundle.size == len(golden.GGUF) + len(golden.CHAT_TEMPLATE)
    assert bundle.model_file.stat().st_ino == store.blobs.path(sha256(golden.GGUF)).stat().st_ino
    assert bundle.folder.stat().st_mode & 0o777 == 0o755
    assert store.bundle(stored.id) == bundle


def test_a_bundle_is_copied_where_it_cant_be_linked(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    model = packaged(store, "a")
    monkeypatch.setattr(os, "link", refuse)
    assert store.bundle(model.id).model_file.read_bytes() == golden.GGUF


def test_a_damaged_bundle_is_made_again(store: ModelStore) -> None:
    model = packaged(store, "a")
    store.bundle(model.id).model_file.unlink()
    assert store.bundle(model.id).model_file.read_bytes() == golden.GGUF


def test_a_bundle_of_lost_blobs(store: ModelStore) -> None:
    model = packaged(store, "a")
    store.blobs.remove(sha256(golden.GGUF))
    with pytest.raises(Conflict, match="missing"):
        store.bundle(model.id)


def test_shards_and_projectors_are_bundled_by_name(store: ModelStore) -> None:
    parts = {b"one": "gguf.v3", b"two": "gguf.v3", b"eye": "mmproj"}
    for content in parts:
        store.blobs.add_bytes(content)
    config = b'{"config":{"format":"gguf"}}'
    descriptors = [
        {"mediaType": f"application/vnd.docker.ai.{kind}", "size": 3, "digest": sha256(content)}
        for content, kind in parts.items()
    ]
    model = store.commit(manifest_of(config, descriptors), config)
    bundle = store.bundle(model.id)
    assert bundle.model_file.name == "model-00001-of-00002.gguf"
    assert bundle.model_file.read_bytes() == b"one"
    assert (bundle.folder / "model-00002-of-00002.gguf").read_bytes() == b"two"
    assert bundle.mmproj == bundle.folder / "model.mmproj"


def manifest_of(config: bytes, layers: list[dict[str, object]]) -> bytes:
    return json.dumps(
        {
            "schemaVersion": 2,
            "config": {
                "mediaType": "application/vnd.docker.ai.model.config.v0.1+json",
                "size": len(config),
                "digest": sha256(config),
            },
            "layers": layers,
        }
    ).encode()


def test_a_model_without_its_layers_is_not_entered(store: ModelStore) -> None:
    with pytest.raises(Conflict, match="not in the store"):
        store.commit(golden.MANIFEST, golden.CONFIG, store.reference("a"))
    assert store.list() == ()


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"hallo!", "larger than"), (b"hell", "came as 4 bytes"), (b"hullo", "came as sha256:")],
)
def test_wrong_bytes_leave_nothing(store: ModelStore, content: bytes, reason: str) -> None:
    with (
        pytest.raises(CorruptTransfer, match=reason),
        store.blobs.writer(sha256(b"hello"), 5) as writer,
    ):
        writer.write(content)
    assert files(store.root) == set()


def test_right_bytes_are_kept(store: ModelStore) -> None:
    with store.blobs.writer(sha256(b"hello"), 5) as writer:
        writer.write(b"he")
        writer.write(b"llo")
    assert store.blobs.read(sha256(b"hello")) == b"hello"
    assert files(store.root) == {f"blobs/sha256/{hashlib.sha256(b'hello').hexdigest()}"}


def test_a_full_disk_is_said_and_leaves_nothing(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFull), store.blobs.writer(sha256(b"hello"), 5) as writer:
        writer.write(b"hello")
    assert files(store.root) == set()


def test_a_really_full_disk(tmp_path: Path) -> None:
    """A file system of one MiB, where the machine lets us mount one."""
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)]
    if sys.platform != "linux" or subprocess.run(command, check=False).returncode:
        pytest.skip("mounting takes root on Linux")
    try:
        store = ModelStore(mount / "models")
        content = bytes(2 * 1024 * 1024)
        with pytest.raises(DiskFull), store.blobs.writer(sha256(content), len(content)) as writer:
            writer.write(content)
        assert files(store.root) == set()
        source = tmp_path / "m.gguf"
        source.write_bytes(gguf(data=content))
        with pytest.raises(DiskFull, match="must be free"):
            package_gguf(store, source, store.reference("a"))
        for blob in (golden.GGUF, golden.CHAT_TEMPLATE, golden.LICENSE):
            store.blobs.add_bytes(blob)
        store.commit(golden.MANIFEST, golden.CONFIG, store.reference("a"))
        (store.root / "models.json.previous").unlink()  # its space would do
        with (mount / "filler").open("wb", buffering=0) as filler, suppress(OSError):
            while filler.write(bytes(4096)):
                pass
        assert shutil.disk_usage(mount).free == 0
        assert store.remove("a").deleted
        assert store.list() == ()
    finally:
        subprocess.run(["umount", str(mount)], check=True)


@pytest.mark.parametrize("purge", [False, True])
def test_a_full_disk_lets_models_be_removed(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch, purge: bool
) -> None:
    """As long as the model's weights are there, nothing more can be written."""
    model, other = packaged(store, "a"), packaged(store, "b", named("b"))
    write, weights = write_whole, store.blobs.path(sha256(golden.GGUF))

    def crowded(path: Path, content: bytes) -> None:
        if weights.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    monkeypatch.setattr(index, "write_whole", crowded)
    removed = store.purge() if purge else store.remove("a")
    assert model.id in removed.deleted
    assert [m.id for m in store.list()] == ([] if purge else [other.id])
    assert not weights.exists()


def test_what_else_the_system_refuses_leaves_the_model(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = packaged(store, "a")

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(index, "write_whole", refuse)
    with pytest.raises(BadInput, match="Permission denied"):
        store.remove("a")
    assert store.bundle(model.id).model_file.read_bytes() == golden.GGUF


def test_a_list_that_is_gone_has_nothing_pruned(store: ModelStore) -> None:
    packaged(store, "a")
    (store.root / "models.json").unlink()
    before = files(store.root)
    for change in (
        lambda: store.prune(everything=True),
        store.purge,
        lambda: packaged(store, "b", named("b")),
    ):
        with pytest.raises(Conflict, match=r"models\.json is gone"):
            change()
    assert files(store.root) >= before


def test_a_clock_that_went_back_keeps_nothing(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    scattered(store)
    before = time.time() - 2 * leftovers.KEPT_FOR
    monkeypatch.setattr(time, "time", lambda: before)
    pruned = store.prune()
    assert (pruned.blobs, pruned.partials, pruned.kept) == (3, 1, 0)


def test_all_goes_whatever_the_clock_says(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    scattered(store)
    before = time.time() - 3600
    monkeypatch.setattr(time, "time", lambda: before)
    pruned = store.prune(everything=True)
    assert (pruned.blobs, pruned.partials, pruned.kept) == (3, 1, 0)


@pytest.mark.parametrize("mtime", [0.0, 4e9])
def test_an_abandoned_link_is_swept_whatever_its_owner_s_time(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mtime: float
) -> None:
    (tmp_path / "x").write_bytes(b"x")
    (store.root / "tmp").mkdir(parents=True)
    part = store.root / "tmp" / "dead.part"
    part.hardlink_to(tmp_path / "x")
    os.utime(part, (mtime, mtime))
    store.blobs.sweep()
    assert part.exists()  # just made: its maker may be about to lock it
    aged(store, monkeypatch)
    store.blobs.sweep()
    assert not part.exists()
    assert (tmp_path / "x").read_bytes() == b"x"


def test_prune_removes_models_without_a_name(store: ModelStore) -> None:
    old, used = packaged(store, "a"), packaged(store, "a", named("used"))
    new = packaged(store, "a", named("new"))
    store.bundle(old.id)
    assert store.prune().unnamed == 2
    assert len(store.list()) == 3
    pruned = store.prune(everything=True, keep={used.id})
    assert (pruned.models, pruned.unnamed, pruned.blobs) == (1, 1, 0)
    assert pruned.freed > len(golden.GGUF)
    assert [model.id for model in store.list()] == [used.id, new.id]
    assert not store.blobs.path(sha256(golden.GGUF)).exists()


def test_space_is_asked_for_before_the_first_byte(store: ModelStore) -> None:
    with pytest.raises(DiskFull, match="must be free"):
        store.blobs.require_space(2**60)


def test_a_file_that_changes_while_it_is_read(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def grow(_: int) -> None:
        with path.open("ab") as file:
            file.write(b"!")

    path = tmp_path / "m"
    path.write_bytes(b"hello")
    monkeypatch.setattr("runner.store.blobs._clone", lambda *_: False)  # takes it in one step
    with pytest.raises(BadInput, match="changed while"):
        store.blobs.add_file(path, grow)
    assert files(store.root) == set()


def test_abandoned_parts_are_swept_and_live_ones_are_not(store: ModelStore) -> None:
    old = time.time() - 3600
    with store.blobs.writer(sha256(b"hello"), 5) as writer:
        (live,) = (store.root / "tmp").iterdir()
        dead = store.root / "tmp" / "dead.part"
        dead.write_bytes(b"x")
        for path in (live, dead):
            os.utime(path, (old, old))
        store.blobs.sweep()
        assert [path.name for path in (store.root / "tmp").iterdir()] == [live.name]
        writer.write(b"hello")


def test_a_newer_layout_is_refused(store: ModelStore) -> None:
    packaged(store, "a")
    (store.root / "layout.json").write_text('{"version":"2.0.0"}')
    for call in (lambda: ModelStore(store.root).list(), lambda: packaged(store, "b")):
        with pytest.raises(SchemaTooNew, match="layout 2"):
            call()


@pytest.mark.parametrize("name", ["models.json", "layout.json"])
def test_an_unreadable_index_is_said(store: ModelStore, name: str) -> None:
    packaged(store, "a")
    (store.root / name).write_text("{")
    with pytest.raises(Conflict, match=name):
        ModelStore(store.root).list()


def test_an_index_of_docker_model_runner(store: ModelStore) -> None:
    model = packaged(store, "a")
    index = store.root / "models.json"
    document = json.loads(index.read_text())
    for entry in document["models"]:
        for ours in ("created", "size", "config"):
            del entry[ours]
    index.write_text(json.dumps(document))
    assert store.get("a").config == model.config


PACKAGE_MANY = """
import sys
from pathlib import Path
from tests.store.test_store import package_many
package_many(Path(sys.argv[1]), int(sys.argv[2]))
"""
ROOT = Path(__file__).parents[2]


def package_many(root: Path, first: int) -> None:
    store = ModelStore(root)
    for number in range(first, first + 10):
        packaged(store, f"m{number}", named(str(number)))


def test_processes_lose_nothing_of_each_other(store: ModelStore) -> None:
    generation = store.generation()
    command = [sys.executable, "-c", PACKAGE_MANY, str(store.root)]
    workers = [subprocess.Popen([*command, str(first)], cwd=ROOT) for first in (0, 10)]
    threads = [threading.Thread(target=package_many, args=(store.root, n)) for n in (20, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [worker.wait(60) for worker in workers] == [0, 0]
    assert store.generation() != generation
    assert {tag for model in store.list() for tag in model.tags} == {
        f"docker.io/ai/m{number}:latest" for number in range(40)
    }


def test_removing_while_packaging_loses_nothing(store: ModelStore) -> None:
    """Two models share their weights; one comes and goes while the other is packaged anew."""
    stop = threading.Event()

    def come_and_go() -> None:
        other = ModelStore(store.root)
        path = store.root.parent / "other.gguf"
        path.write_bytes(golden.GGUF)
        while not stop.is_set():
            package_gguf(other, path, other.reference("other"), context_size=16)
            other.remove("other")

    thread = threading.Thread(target=come_and_go)
    store.root.mkdir()
    thread.start()
    try:
        for _ in range(30):
            model = packaged(store, "mine")
            assert store.bundle(model.id).model_file.read_bytes() == golden.GGUF
            store.remove("mine")
    finally:
        stop.set()
        thread.join(30)


def test_listing_is_light_and_quick(store: ModelStore) -> None:
    """Nothing but the standard library is imported for it."""
    packaged(store, "a")
    code = (
        "import sys; from pathlib import Path; from runner.store.store import ModelStore;"
        f"print(len(ModelStore(Path({str(store.root)!r})).list()));"
        "print([m for m in ('requests','oras','docker','pydantic','httpx','yaml','typer')"
        " if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert found.stdout == "1\n[]\n"


def aged(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A day and a bit later."""
    later = time.time() + leftovers.KEPT_FOR + 60
    monkeypatch.setattr(time, "time", lambda: later)


def scattered(store: ModelStore) -> None:
    """What programs leave that are killed at each step."""
    model = packaged(store, "gone", named("gone"))
    store.bundle(model.id)
    with store.lock.held():
        store.index.write([e for e in store.index.entries() if e.id != model.id])
    store.blobs.add_bytes(b"orphan")
    (store.root / "partial").mkdir()
    (store.root / "partial" / ("0" * 64)).write_bytes(bytes(8192))
    (store.root / "partial" / ("0" * 64 + ".log")).write_text("0 8192\n")
    (store.root / ".models.json.0123456789abcdef").write_text("{")
    (store.manifests.folder / f".{'0' * 64}.0123456789abcdef").write_text("{")


def test_prune_leaves_what_is_young(store: ModelStore) -> None:
    packaged(store, "a")
    scattered(store)
    before = files(store.root)
    pruned = store.prune()
    assert (pruned.blobs, pruned.partials, pruned.bundles, pruned.manifests) == (0, 0, 1, 1)
    assert pruned.kept > 8192
    left = before - files(store.root)
    assert all("bundles" in name or "manifests" in name or ".models" in name for name in left)


@pytest.mark.parametrize("everything", [False, True])
def test_prune_removes_what_belongs_to_no_model(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch, everything: bool
) -> None:
    model = packaged(store, "a")
    store.bundle(model.id)
    before = files(store.root)
    scattered(store)
    if not everything:
        aged(store, monkeypatch)
    pruned = store.prune(everything=everything)
    assert (pruned.blobs, pruned.partials, pruned.bundles, pruned.manifests) == (3, 1, 1, 1)
    assert pruned.freed > 8192
    assert pruned.kept == 0
    assert files(store.root) == before
    assert store.prune(everything=True) == leftovers.Pruned()
    assert store.bundle(model.id).model_file.read_bytes() == golden.GGUF


def test_prune_leaves_a_living_transfer_alone(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its partial file is locked; its blobs that are in already are young."""
    digest = sha256(b"one" * 1000)
    partial = Partials(store.root).open(digest, 3000)
    assert partial
    store.blobs.add_bytes(b"another part of the same model")
    pruned = store.prune(everything=True)
    assert (pruned.blobs, pruned.partials) == (0, 0)
    assert pruned.kept >= len(b"another part of the same model")
    aged(store, monkeypatch)
    assert store.prune().partials == 0
    partial.write(0, b"one" * 1000)
    partial.keep(store.blobs, digest)
    partial.close()
    assert store.blobs.read(digest) == b"one" * 1000
    assert store.prune(everything=True).blobs == 2


def test_prune_removes_a_journal_whose_download_became_a_blob(store: ModelStore) -> None:
    """As a program leaves it that is killed between the two."""
    folder = store.root / "partial"
    folder.mkdir(parents=True)
    (folder / f"{'0' * 64}.log").write_text("0 1\n")
    assert store.prune().partials == 0
    assert store.prune(everything=True).partials == 1
    assert list(folder.iterdir()) == []


def test_prune_leaves_a_file_that_is_being_packaged_alone(store: ModelStore) -> None:
    content = b"one"
    with store.blobs.writer(sha256(content), 3) as writer:
        store.blobs.add_bytes(b"another")
        assert store.prune(everything=True).blobs == 0
        writer.write(content)
    assert store.blobs.read(sha256(content)) == content


def test_a_blob_pruned_under_a_pull_is_noticed(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.blobs.add_bytes(golden.GGUF)
    store.blobs.add_bytes(golden.CHAT_TEMPLATE)
    aged(store, monkeypatch)
    assert store.prune().blobs == 2
    with pytest.raises(Conflict, match="not in the store"):
        store.commit(golden.MANIFEST, golden.CONFIG, store.reference("a"))
    assert store.list() == ()


def test_prune_forgets_links_whose_blob_is_gone(store: ModelStore, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    digest, _ = store.blobs.add_file(tmp_path / "x", link=True)
    store.blobs.path(digest).unlink()
    store.prune()
    assert store.blobs.links.all() == {}


def test_prune_frees_nothing_of_linked_files(store: ModelStore, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    store.blobs.add_file(tmp_path / "x", link=True)
    pruned = store.prune(everything=True)
    assert (pruned.blobs, pruned.freed) == (1, 0)
    assert (tmp_path / "x").read_bytes() == b"x"


def test_purge(store: ModelStore) -> None:
    first, second = packaged(store, "a", named("a")), packaged(store, "b", named("b"))
    store.tag("a", store.reference("c"))
    removed = store.purge(keep={second.id})
    assert removed.deleted == (first.id,)
    assert removed.untagged == ("docker.io/ai/a:latest", "docker.io/ai/c:latest")
    assert store.bundle(second.id).model_file.read_bytes() == named("b")
    assert len(list(store.blobs.all())) == 2
    assert store.purge().deleted == (second.id,)
    assert files(store.root) == set()
    assert store.purge() == Removed()


def test_several_models_are_entered_at_once_or_not_at_all(store: ModelStore) -> None:
    for content in (golden.GGUF, golden.CHAT_TEMPLATE, golden.LICENSE):
        store.blobs.add_bytes(content)
    good = Addition(golden.MANIFEST, golden.CONFIG, (parse("a"), parse("b")))
    lacking = golden.MANIFEST.replace(sha256(golden.GGUF).encode(), sha256(b"nowhere").encode())
    with pytest.raises(Conflict):
        store.enter([good, Addition(lacking, golden.CONFIG, (parse("c"),))])
    assert store.list() == ()
    (model,) = store.enter([good])
    assert model.tags == ("docker.io/ai/a:latest", "docker.io/ai/b:latest")


def test_the_folder_is_a_setting(home: Path, tmp_path: Path) -> None:
    variables = {"RUNNER_HOME": str(home)}
    assert store_of(load(variables)).root == home / "models"
    elsewhere = tmp_path / "elsewhere"
    (home / "config.yaml").write_text(f"models_path: {elsewhere}\ndefault_organisation: org\n")
    store = store_of(load(variables))
    assert store.root == elsewhere
    assert store.reference("x").long == "docker.io/org/x:latest"
    packaged(store, "x")
    listed = subprocess.run(
        [sys.executable, "-m", "runner", "ls", "--quiet"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **variables},
    )
    assert listed.stdout.split() == [model.id for model in store.list()]
    assert not (home / "models").exists()
    with pytest.raises(BadSettings, match="models_path: write the whole path"):
        load({**variables, "RUNNER_MODELS_PATH": "relative"})


def test_a_thread_that_holds_the_lock_may_take_it_again(store: ModelStore) -> None:
    with store.lock.held(), store.lock.held():
        taken = threading.Event()
        thread = threading.Thread(target=_take, args=(ModelStore(store.root), taken))
        thread.start()
    thread.join(30)
    assert taken.is_set()


def _take(store: ModelStore, taken: threading.Event) -> None:
    with store.lock.held():
        taken.set()

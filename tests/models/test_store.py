"""The store: names, blobs, bundles, other processes, and what a failure leaves behind."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from runner.errors import (
    BadInput,
    BadReference,
    Conflict,
    CorruptTransfer,
    DiskFull,
    ModelNotFound,
    SchemaTooNew,
    Unsupported,
)
from runner.models.package import package_gguf
from runner.models.store import ModelStore, StoredModel
from runner.registry.reference import parse
from tests.models import golden
from tests.models.gguf_bytes import LLAMA, STRING, gguf


def packaged(store: ModelStore, name: str, content: bytes = golden.GGUF) -> StoredModel:
    path = store.root.parent / f"{hashlib.sha256(content).hexdigest()[:8]}.gguf"
    path.write_bytes(content)
    return package_gguf(store, path, store.reference(name))


def named(name: str) -> bytes:
    """A model of its own for each name."""
    return gguf({**LLAMA, "general.name": (STRING, name)})


def files(folder: Path) -> set[str]:
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return found - {"lock", "layout.json", "models.json"}


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
    assert caught.value.hint == "did you mean ai/smollm2? Else: runner pull ai/smolm2"
    with pytest.raises(ModelNotFound) as caught:
        store.get("localhost:5000/other:1")
    assert caught.value.hint == "runner pull localhost:5000/other:1"
    with pytest.raises(ModelNotFound, match="no model here has the ID"):
        store.get("sha256:" + "0" * 64)
    with pytest.raises(BadReference):
        store.get("not a reference")


def test_defaults_are_the_settings(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "m", default_registry="r.example", default_organisation="org")
    assert packaged(store, "demo").tags == ("r.example/org/demo:latest",)
    assert store.get("demo").tags == ("r.example/org/demo:latest",)


def test_list_is_the_summary_and_get_the_whole(store: ModelStore) -> None:
    model = packaged(store, "demo")
    (listed,) = store.list()
    assert listed.config.gguf == {}
    assert listed.config.quantization == model.config.quantization == "F16"
    assert store.get("demo").config.gguf["llama.context_length"] == "256"
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


def test_safetensors_are_kept_and_not_served_yet(store: ModelStore) -> None:
    store.blobs.add_bytes(b"one")
    config = b'{"config":{"format":"safetensors"}}'
    kind = "application/vnd.docker.ai.safetensors"
    layer = {"mediaType": kind, "size": 3, "digest": sha256(b"one")}
    model = store.commit(manifest_of(config, [layer]), config)
    with pytest.raises(Unsupported):
        store.bundle(model.id)


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
        store.blob_writer(sha256(b"hello"), 5) as writer,
    ):
        writer.write(content)
    assert files(store.root) == set()


def test_right_bytes_are_kept(store: ModelStore) -> None:
    with store.blob_writer(sha256(b"hello"), 5) as writer:
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
    with pytest.raises(DiskFull), store.blob_writer(sha256(b"hello"), 5) as writer:
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
        with pytest.raises(DiskFull), store.blob_writer(sha256(content), len(content)) as writer:
            writer.write(content)
        assert files(store.root) == set()
        source = tmp_path / "m.gguf"
        source.write_bytes(gguf(data=content))
        with pytest.raises(DiskFull, match="must be free"):
            package_gguf(store, source, store.reference("a"))
    finally:
        subprocess.run(["umount", str(mount)], check=True)


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
    monkeypatch.setattr("runner.models.blobs._clone", lambda *_: False)  # takes it in one step
    with pytest.raises(BadInput, match="changed while"):
        store.add_blob_from_file(path, grow)
    assert files(store.root) == set()


def test_abandoned_parts_are_swept_and_live_ones_are_not(store: ModelStore) -> None:
    old = time.time() - 3600
    with store.blob_writer(sha256(b"hello"), 5) as writer:
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
from tests.models.test_store import package_many
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
        "import sys; from pathlib import Path; from runner.models.store import ModelStore;"
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

"""Bundles: every dialect and format laid out as engines expect, whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.artifacts.media import Dialect, ModelFormat, Packing
from runner.errors import BadModelFile, Conflict, DiskFull
from runner.store import bundles, unpack
from runner.store.bundle import Bundle
from runner.store.store import ModelStore
from runner.store.stored import StoredModel
from tests.artifacts import golden
from tests.models.artifacts import Artifact, Part, cncf, docker
from tests.store.tars import header, packed, tar

SAFETENSORS = (2).to_bytes(8, "little") + b"{}"
PYTORCH = pickle.dumps({"weights": [1.0]})
V01, V02, MODELPACK = Dialect


def laid_out(bundle: Bundle) -> dict[str, bytes]:
    return {
        path.relative_to(bundle.folder).as_posix(): path.read_bytes()
        for path in bundle.folder.rglob("*")
        if path.is_file()
    }


def bundled(
    store: ModelStore, dialect: Dialect, *parts: Part, model_format: str = "gguf"
) -> tuple[Bundle, dict[str, bytes]]:
    model = Artifact(dialect, parts, {"format": model_format}).enter(store)
    bundle = store.bundle(model.id)
    assert bundle == store.bundle(model.id)
    files = laid_out(bundle)
    assert bundle.size == sum(map(len, files.values()))
    return bundle, files


def unfinished(store: ModelStore) -> list[str]:
    folder = store.root / "bundles" / "sha256"
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_v01_names_files_by_their_kind(store: ModelStore) -> None:
    bundle, files = bundled(
        store,
        V01,
        docker("gguf.v3", golden.GGUF, "Some-Model.Q4_K_M.gguf"),
        docker("mmproj", b"eye", "mmproj-f16.gguf"),
        docker("chat.template.jinja", b"{{ m }}", "mine.jinja"),
        docker("license", b"free", "LICENSE"),
        docker("license", b"as beer", "LICENSE"),
        docker("model.file", b"[]", "extra/notes.json"),
    )
    assert files == {
        "model.gguf": golden.GGUF,
        "model.mmproj": b"eye",
        "template.jinja": b"{{ m }}",
        "extra/notes.json": b"[]",
    }
    assert bundle.model_file == bundle.folder / "model.gguf"
    assert bundle.mmproj == bundle.folder / "model.mmproj"
    assert bundle.chat_template == bundle.folder / "template.jinja"
    assert (bundle.format, bundle.pickles) == (ModelFormat.GGUF, False)


@pytest.mark.parametrize(
    ("kind", "model_format", "suffix"),
    [("gguf.v3", "gguf", "gguf"), ("safetensors", "safetensors", "safetensors")],
)
def test_v01_numbers_shards(store: ModelStore, kind: str, model_format: str, suffix: str) -> None:
    shards = [docker(kind, b"shard %d" % number) for number in (1, 2, 3)]
    bundle, files = bundled(store, V01, *shards, model_format=model_format)
    assert sorted(files) == [f"model-{n:05d}-of-00003.{suffix}" for n in (1, 2, 3)]
    assert bundle.model_file.name == f"model-00001-of-00003.{suffix}"
    assert bundle.model_file.read_bytes() == b"shard 1"
    assert bundle.format is ModelFormat(model_format)
    assert (bundle.chat_template, bundle.mmproj) == (None, None)


def test_v01_keeps_the_name_of_a_dduf(store: ModelStore) -> None:
    bundle, files = bundled(store, V01, docker("dduf", b"zip", "flux.dduf"), model_format="dduf")
    assert files == {"flux.dduf": b"zip"}
    assert bundle.model_file.name == "flux.dduf"
    assert bundle.format is ModelFormat.DDUF


def test_v01_adapters(store: ModelStore) -> None:
    bundle, files = bundled(store, V01, docker("gguf.v3.lora", golden.GGUF, "mine.gguf"))
    assert files == {"adapter.gguf": golden.GGUF}
    assert bundle.model_file.name == "adapter.gguf"


def test_v01_unpacks_its_archives(store: ModelStore) -> None:
    """The legacy safetensors artifacts: weights as layers, their configs in a tar."""
    config = tar(("config.json", b"{}"), ("tokenizer.json", b"[]"))
    more = tar(header("sub", b"5"), ("sub/x.txt", b"x"), ("chat.jinja", b"{{ m }}"))
    bundle, files = bundled(
        store,
        V01,
        docker("safetensors", SAFETENSORS),
        docker("vllm.config.tar", config, "config.tar"),
        docker("dir.tar", more, "sub"),
        model_format="safetensors",
    )
    assert files == {
        "model.safetensors": SAFETENSORS,
        "config.json": b"{}",
        "tokenizer.json": b"[]",
        "sub/x.txt": b"x",
        "chat.jinja": b"{{ m }}",
    }
    assert bundle.model_file.name == "model.safetensors"
    assert bundle.chat_template == bundle.folder / "chat.jinja"


def test_v02_lays_files_where_their_paths_say(store: ModelStore) -> None:
    bundle, files = bundled(
        store,
        V02,
        docker("model.file", b"{}", "config.json"),
        docker("license", b"free", "LICENSE"),
        docker("safetensors", SAFETENSORS, "text_encoder/model.safetensors"),
        docker("safetensors", SAFETENSORS + b" ", "unet/model.safetensors"),
        docker("chat.template.jinja", b"[]", "chat_template.json"),
        docker("chat.template.jinja", b"{{ m }}", "chat_template.jinja"),
        model_format="safetensors",
    )
    assert sorted(files) == [
        "LICENSE",
        "chat_template.jinja",
        "chat_template.json",
        "config.json",
        "text_encoder/model.safetensors",
        "unet/model.safetensors",
    ]
    assert bundle.model_file == bundle.folder / "text_encoder/model.safetensors"
    assert bundle.chat_template == bundle.folder / "chat_template.jinja"
    assert (bundle.folder / "unet").stat().st_mode & 0o777 == 0o755


def test_v02_with_gguf_and_its_projector(store: ModelStore) -> None:
    bundle, _ = bundled(
        store,
        V02,
        docker("gguf.v3", b"eye", "mmproj-F16.gguf"),
        docker("gguf.v3", b"two", "sub/x-00001-of-00002.gguf"),
        docker("gguf.v3", golden.GGUF, "x-00001-of-00002.gguf"),
        docker("gguf.v3", b"more", "x-00002-of-00002.gguf"),
    )
    assert bundle.model_file == bundle.folder / "x-00001-of-00002.gguf"
    assert bundle.mmproj == bundle.folder / "mmproj-F16.gguf"


def test_modelpack_raw_layers(store: ModelStore) -> None:
    bundle, files = bundled(
        store,
        MODELPACK,
        cncf("weight.v1.raw", golden.GGUF, "m.gguf"),
        cncf("weight.v1.raw", b"eye", "mmproj-m.gguf"),
        cncf("weight.config.v1.raw", b"{}", "config.json"),
        cncf("doc.v1.raw", b"# m", "README.md"),
        cncf("code.v1.raw", b"pass", "src/run.py"),
        cncf("dataset.v1.raw", b"1,2", "data/a.csv"),
    )
    assert sorted(files) == [
        "README.md",
        "config.json",
        "data/a.csv",
        "m.gguf",
        "mmproj-m.gguf",
        "src/run.py",
    ]
    assert bundle.model_file.name == "m.gguf"
    assert bundle.mmproj == bundle.folder / "mmproj-m.gguf"


def test_modelpack_weights_without_a_name(store: ModelStore) -> None:
    bundle, files = bundled(store, MODELPACK, cncf("weight.v1.raw", golden.GGUF))
    assert files == {"model.gguf": golden.GGUF}
    assert bundle.format is ModelFormat.GGUF


@pytest.mark.parametrize(
    ("packing", "kind"),
    [(Packing.TAR, "tar"), (Packing.TAR_GZIP, "tar+gzip"), (Packing.TAR_ZSTD, "tar+zstd")],
)
def test_weights_in_archives(store: ModelStore, packing: Packing, kind: str) -> None:
    """Told by what is in them: neither the suffix nor a silent config says GGUF."""
    weights = tar(("weights", golden.GGUF), ("wrong.gguf", b"not one"), ("a.safetensors", b"no"))
    model = Artifact(
        MODELPACK,
        [
            cncf(f"weight.v1.{kind}", packed(weights, packing), "model.tar"),
            cncf(f"weight.config.v1.{kind}", packed(tar(("config.json", b"{}")), packing)),
            cncf(f"doc.v1.{kind}", packed(tar(("doc/README.md", b"# m")), packing)),
            cncf(f"code.v1.{kind}", packed(tar(("run.py", b"pass")), packing)),
            cncf(f"dataset.v1.{kind}", packed(tar(("data/a.csv", b"1")), packing)),
        ],
        {},
    ).enter(store)
    bundle = store.bundle(model.id)
    files = laid_out(bundle)
    assert sorted(files) == [
        "a.safetensors",
        "config.json",
        "data/a.csv",
        "doc/README.md",
        "run.py",
        "weights",
        "wrong.gguf",
    ]
    assert bundle.model_file == bundle.folder / "weights"
    assert bundle.format is ModelFormat.GGUF
    assert bundle.size == sum(map(len, files.values()))
    assert bundle.model_file.stat().st_mode & 0o777 == 0o444
    assert store.bundle(model.id) == bundle


def test_safetensors_in_an_archive(store: ModelStore) -> None:
    content = tar(("x/model.safetensors", SAFETENSORS), ("x/config.json", b"{}"))
    bundle, _ = bundled(
        store, MODELPACK, cncf("weight.v1.tar", content), model_format="safetensors"
    )
    assert bundle.model_file == bundle.folder / "x/model.safetensors"
    assert bundle.format is ModelFormat.SAFETENSORS


def test_an_archive_without_weights(store: ModelStore) -> None:
    model = Artifact(MODELPACK, [cncf("weight.v1.tar", tar(("a.txt", b"1")))], {}).enter(store)
    with pytest.raises(BadModelFile, match="hold no weights"):
        store.bundle(model.id)
    assert unfinished(store) == []


@pytest.mark.parametrize(
    ("name", "content", "flagged"),
    [
        ("pytorch_model.bin", PYTORCH, True),
        ("deep/x.pt", PYTORCH, True),
        ("weights.bin", b"\0" * 64, False),
        ("notes.txt", PYTORCH, True),
        ("training_args.bin", PYTORCH, False),
    ],
)
def test_pickles_in_archives_are_found(
    store: ModelStore, name: str, content: bytes, flagged: bool
) -> None:
    bundle, _ = bundled(
        store, V01, docker("gguf.v3", golden.GGUF), docker("dir.tar", tar((name, content)))
    )
    assert bundle.pickles is flagged
    assert bundle.format is ModelFormat.GGUF


def test_a_pickle_is_not_hidden_by_what_lies_beside_it(store: ModelStore) -> None:
    """The `.bin` of OpenVINO is none; a planted `.xml` does not make this one OpenVINO's."""
    parts = [
        docker("model.file", PYTORCH, "pytorch_model.bin"),
        docker("model.file", b"<net/>", "pytorch_model.xml"),
    ]
    model = Artifact(V02, parts, {"format": "pytorch"}).enter(store)
    assert store.bundle(model.id).pickles


def test_pickles_that_the_config_names(store: ModelStore) -> None:
    """Weights that no suffix tells of: the largest file."""
    parts = [
        docker("model.file", b"{}", "config.json"),
        docker("model.file", b"anything", "model.pt2"),
    ]
    model = Artifact(V02, parts, {"format": "pytorch", "pickles": True}).enter(store)
    bundle = store.bundle(model.id)
    assert bundle.pickles
    assert (bundle.model_file.name, bundle.format) == ("model.pt2", ModelFormat.PYTORCH)


def test_raw_layers_are_hard_links(store: ModelStore) -> None:
    part = docker("gguf.v3", golden.GGUF, "deep/m.gguf")
    bundle, _ = bundled(store, V02, part)
    blob = store.blobs.path(str(part.descriptor["digest"]))
    assert bundle.model_file.stat().st_ino == blob.stat().st_ino


@pytest.mark.parametrize("reason", [errno.EXDEV, errno.EMLINK, errno.EPERM])
def test_raw_layers_are_copied_where_they_cant_be_linked(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(reason, "no links")

    model = Artifact(V02, [docker("gguf.v3", golden.GGUF, "a/m.gguf")]).enter(store)
    monkeypatch.setattr(os, "link", refuse)
    bundle = store.bundle(model.id)
    assert laid_out(bundle) == {"a/m.gguf": golden.GGUF}
    status = bundle.model_file.stat()
    assert (status.st_nlink, status.st_mode & 0o777) == (1, 0o444)


CLASHES = {
    "archive and layer": [
        docker("gguf.v3", golden.GGUF),
        docker("dir.tar", tar(("model.gguf", b"other"))),
    ],
    "two archives": [
        docker("gguf.v3", golden.GGUF),
        docker("dir.tar", tar(("a", b"1"))),
        docker("vllm.config.tar", tar(("a", b"2"))),
    ],
    "file and folder": [
        docker("gguf.v3", golden.GGUF),
        docker("dir.tar", tar(("model.gguf/x", b"2"))),
    ],
    "in one archive": [
        docker("gguf.v3", golden.GGUF),
        docker("dir.tar", tar(("a", b"1"), ("a", b"1"))),
    ],
}


@pytest.mark.parametrize("parts", CLASHES.values(), ids=CLASHES)
def test_names_that_clash(store: ModelStore, parts: list[Part]) -> None:
    model = Artifact(V01, parts).enter(store)
    with pytest.raises(BadModelFile, match="want the name"):
        store.bundle(model.id)
    assert unfinished(store) == []
    assert store.blobs.read(str(parts[0].descriptor["digest"])) == golden.GGUF


BAD_ARCHIVES = {
    "cut": tar(("a", b"1" * 600))[:700],
    "leads out": tar(("../../../blobs/sha256/x", b"1")),
    "link": tar(header("a", b"2", linkname="/etc/passwd")),
}


@pytest.mark.parametrize("content", BAD_ARCHIVES.values(), ids=BAD_ARCHIVES)
def test_a_bad_archive_leaves_nothing_behind(store: ModelStore, content: bytes) -> None:
    parts = [docker("gguf.v3", golden.GGUF), docker("dir.tar", content)]
    model = Artifact(V01, parts).enter(store)
    before = sorted(store.root.rglob("*"))
    with pytest.raises(BadModelFile):
        store.bundle(model.id)
    after = set(store.root.rglob("*")) - set(before)
    assert after == {store.root / "bundles", store.root / "bundles" / "sha256"}


def test_a_full_disk_leaves_nothing_behind(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [docker("gguf.v3", golden.GGUF), docker("dir.tar", tar(("a", b"1" * 4096)))]
    model = Artifact(V01, parts).enter(store)

    def full(self: object, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("runner.store.tree._write_all", full)
    with pytest.raises(DiskFull):
        store.bundle(model.id)
    assert unfinished(store) == []


def test_space_is_asked_for_first(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tar(("a", b"1" * 4096))
    parts = [docker("gguf.v3", golden.GGUF), docker("dir.tar", archive)]
    model = Artifact(V01, parts).enter(store)
    usage = shutil.disk_usage(store.root)
    free = usage._replace(free=64 * 1024**2 + len(archive) - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    with pytest.raises(DiskFull):
        store.bundle(model.id)
    assert unfinished(store) == []


def spoil_record(bundle: Bundle) -> None:
    (bundle.folder.parent / "bundle.json").write_text("{")


def newer_record(bundle: Bundle) -> None:
    record = bundle.folder.parent / "bundle.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"version": 2}))


def lose_record(bundle: Bundle) -> None:
    (bundle.folder.parent / "bundle.json").unlink()


def lose_a_file(bundle: Bundle) -> None:
    (bundle.folder / "a").unlink()


def cut_a_file(bundle: Bundle) -> None:
    (bundle.folder / "a").chmod(0o644)
    (bundle.folder / "a").write_bytes(b"")


def link_a_file(bundle: Bundle) -> None:
    (bundle.folder / "a").unlink()
    (bundle.folder / "a").symlink_to(bundle.folder / "model.gguf")


def lose_the_folder(bundle: Bundle) -> None:
    shutil.rmtree(bundle.folder)


@pytest.mark.parametrize(
    "damage",
    [
        spoil_record,
        newer_record,
        lose_record,
        lose_a_file,
        cut_a_file,
        link_a_file,
        lose_the_folder,
    ],
)
def test_a_bundle_that_is_not_as_it_was_made_is_made_again(
    store: ModelStore, damage: Callable[[Bundle], None]
) -> None:
    bundle, files = bundled(
        store, V01, docker("gguf.v3", golden.GGUF), docker("dir.tar", tar(("a", b"1")))
    )
    damage(bundle)
    assert store.bundle(store.list()[0].id) == bundle
    assert laid_out(bundle) == files
    assert (bundle.folder / "a").is_file()


def test_a_blob_that_was_replaced_is_linked_anew(store: ModelStore) -> None:
    """As a repair does with a damaged one: the old bytes are still in the bundle's link."""
    part = docker("gguf.v3", golden.GGUF)
    bundle, _ = bundled(store, V01, part)
    blob = store.blobs.path(str(part.descriptor["digest"]))
    old = bundle.model_file.stat().st_ino
    blob.rename(blob.with_name("old"))
    blob.write_bytes(golden.GGUF)
    again = store.bundle(store.list()[0].id)
    assert again.model_file.stat().st_ino == blob.stat().st_ino != old


def test_a_lost_blob_is_said_even_where_a_bundle_has_it(store: ModelStore) -> None:
    part = docker("gguf.v3", golden.GGUF)
    bundled(store, V01, part)
    store.blobs.path(str(part.descriptor["digest"])).unlink()
    with pytest.raises(Conflict, match="missing in the store"):
        store.bundle(store.list()[0].id)


def test_a_linked_file_is_checked_before_every_load(store: ModelStore, tmp_path: Path) -> None:
    source = tmp_path / "mine.gguf"
    source.write_bytes(golden.GGUF)
    store.blobs.add_file(source, link=True)
    bundled(store, V01, docker("gguf.v3", golden.GGUF))
    source.chmod(0o644)
    with source.open("r+b") as file:
        file.write(b"X")
    with pytest.raises(Conflict, match="was edited"):
        store.bundle(store.list()[0].id)


def test_an_edit_just_before_a_bundle_was_recorded(store: ModelStore, tmp_path: Path) -> None:
    """The record then speaks of the edited file, and only the store's own of the one linked."""
    source = tmp_path / "mine.gguf"
    source.write_bytes(golden.GGUF)
    digest, _ = store.blobs.add_file(source, link=True)
    bundle, _ = bundled(store, V01, docker("gguf.v3", golden.GGUF))
    source.chmod(0o644)
    source.write_bytes(golden.GGUF[:-1] + b"X")
    now = source.stat()
    record = bundle.folder.parent / "bundle.json"
    document = json.loads(record.read_text())
    document["files"]["model.gguf"] = [now.st_size, now.st_mtime_ns]
    document["blobs"][digest] = [now.st_ino, now.st_size, now.st_mtime_ns]
    record.write_text(json.dumps(document))
    with pytest.raises(Conflict, match="was edited"):
        store.bundle(store.list()[0].id)


def demo(store: ModelStore) -> StoredModel:
    parts = [docker("gguf.v3", golden.GGUF), docker("dir.tar", tar(("a", b"1"), ("b/c", b"2")))]
    return Artifact(V01, parts).enter(store)


KILLED = """
import os, signal, sys
from pathlib import Path
from runner.store import bundles, unpack
from runner.store.store import ModelStore

store, step = ModelStore(Path(sys.argv[1])), sys.argv[2]

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

if step == "unpack":
    unpack.Unpacker.unpack = die
elif step == "record":
    bundles.write_record = die
elif step == "rename":
    bundles.Bundles._publish = die
else:
    bundles.sync_folder = die
store.bundle(store.list()[0].id)
"""


@pytest.mark.parametrize("step", ["unpack", "record", "rename", "sync"])
def test_a_maker_that_is_killed(
    store: ModelStore, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a bundle is never taken for one, and goes when the next one is made."""
    model = demo(store)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(store.root), step], check=False)
    assert killed.returncode == -9
    left = unfinished(store)
    assert len(left) == (step != "sync")
    store.bundles.sweep()
    assert unfinished(store) == left, "its maker may still live"
    monkeypatch.setattr(bundles, "ABANDONED_AFTER", -1)
    assert sorted(laid_out(store.bundle(model.id))) == ["a", "b/c", "model.gguf"]
    store.bundles.sweep()
    assert unfinished(store) == []


def test_a_bundle_that_is_being_made_is_not_swept(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = demo(store)
    monkeypatch.setattr(bundles, "ABANDONED_AFTER", -1)
    unpacking = unpack.Unpacker.unpack

    def sweeping(self: unpack.Unpacker, archive: Path, packing: Packing) -> None:
        store.bundles.sweep()
        unpacking(self, archive, packing)

    monkeypatch.setattr(unpack.Unpacker, "unpack", sweeping)
    assert sorted(laid_out(store.bundle(model.id))) == ["a", "b/c", "model.gguf"]


def test_makers_at_the_same_time(store: ModelStore) -> None:
    model = demo(store)
    start = threading.Barrier(8)
    found: list[Bundle] = []

    def make() -> None:
        start.wait(timeout=60)
        found.append(store.bundle(model.id))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(found) == 8
    assert set(found) == {store.bundle(model.id)}
    assert sorted(laid_out(found[0])) == ["a", "b/c", "model.gguf"]
    assert unfinished(store) == []


def test_a_blob_that_goes_while_a_bundle_is_made(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = demo(store)
    linking = os.link

    def gone(source: Path, target: Path) -> None:
        source.unlink()
        linking(source, target)

    monkeypatch.setattr(os, "link", gone)
    with pytest.raises(Conflict, match="removed meanwhile"):
        store.bundle(model.id)
    assert unfinished(store) == []


def test_a_removed_model_takes_its_bundle_along(store: ModelStore) -> None:
    bundle = store.bundle(demo(store).id)
    store.remove("hand/made")
    assert not bundle.folder.parent.exists()

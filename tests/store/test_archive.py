"""Archives: written the same every time, opened by peers, and read with distrust."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
import threading
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from runner.errors import (
    BadInput,
    BadModelFile,
    Conflict,
    CorruptTransfer,
    DiskFull,
    ModelNotFound,
    RunnerError,
)
from runner.models.transfer import pull
from runner.registry.reference import parse
from runner.settings import Settings
from runner.store import archive as archive_module
from runner.store.archive import export_models, import_models
from runner.store.store import Addition, ModelStore
from runner.store.stored import StoredModel
from tests.artifacts import golden
from tests.store.tars import header, tar
from tests.store.test_store import files, named, packaged
from tests.support.tools import tool

REF_NAME = "org.opencontainers.image.ref.name"
LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def blob(content: bytes) -> tuple[str, bytes]:
    return f"blobs/sha256/{hashlib.sha256(content).hexdigest()}", content


def described(content: bytes, name: str = "", media_type: str = MANIFEST_TYPE) -> dict[str, object]:
    annotations = {"annotations": {REF_NAME: name}} if name else {}
    return {"mediaType": media_type, "digest": sha256(content), "size": len(content)} | annotations


def index_of(*descriptors: dict[str, object]) -> bytes:
    return json.dumps({"schemaVersion": 2, "manifests": descriptors}).encode()


GOLDEN_BLOBS = tuple(
    blob(content)
    for content in (
        golden.CONFIG,
        golden.GGUF,
        golden.CHAT_TEMPLATE,
        golden.LICENSE,
        golden.MANIFEST,
    )
)


def layout(index: bytes, *blobs: tuple[str, bytes]) -> bytes:
    return tar(("oci-layout", LAYOUT), ("index.json", index), *blobs)


def golden_layout(name: str = "ai/golden:1") -> bytes:
    return layout(index_of(described(golden.MANIFEST, name)), *GOLDEN_BLOBS)


@pytest.fixture
def other(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "other")


def exported(store: ModelStore, *names: str) -> bytes:
    target = io.BytesIO()
    export_models(store, names, target)
    return target.getvalue()


def imported(store: ModelStore, content: bytes) -> tuple[StoredModel, ...]:
    return import_models(store, io.BytesIO(content))


def test_there_and_back(store: ModelStore, other: ModelStore) -> None:
    first, second = packaged(store, "a"), packaged(store, "b", named("b"))
    store.tag("a", store.reference("localhost:5000/c:1"))
    models = imported(other, exported(store, first.id, "b"))
    assert [(m.id, m.tags) for m in models] == [
        (first.id, ("docker.io/ai/a:latest", "localhost:5000/c:1")),
        (second.id, ("docker.io/ai/b:latest",)),
    ]
    assert other.manifest(first.id) == store.manifest(first.id)
    assert other.get("a").config == first.config
    assert other.bundle(first.id).model_file.read_bytes() == golden.GGUF
    assert files(other.root) - {name for name in files(other.root) if "bundles" in name} == {
        name for name in files(store.root) if "bundles" not in name
    }


def test_a_name_takes_that_name_alone_along(store: ModelStore, other: ModelStore) -> None:
    packaged(store, "a")
    store.tag("a", store.reference("b"))
    (model,) = imported(other, exported(store, "b"))
    assert model.tags == ("docker.io/ai/b:latest",)


def test_the_same_models_make_the_same_bytes(store: ModelStore, other: ModelStore) -> None:
    content = exported(store, packaged(store, "a").id)
    packaged(other, "a")
    os.utime(other.blobs.path(sha256(golden.GGUF)), (1, 1))
    assert exported(other, "a") == content
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        members = archive.getmembers()
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, 0, "", "")}
    assert [m.name for m in members[:4]] == ["oci-layout", "index.json", "blobs", "blobs/sha256"]
    assert {m.mode for m in members} == {0o644, 0o755}


def test_an_archive_appears_when_it_is_whole(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged(store, "a")
    target = tmp_path / "out" / "x.tar"
    target.parent.mkdir()
    target.write_bytes(b"before")
    with monkeypatch.context() as patch:
        patch.setattr("runner.store.archive._write_blob", _full)
        with pytest.raises(DiskFull):
            export_models(store, ["a"], target)
    assert [path.name for path in target.parent.iterdir()] == ["x.tar"]
    assert target.read_bytes() == b"before"
    export_models(store, ["a"], target)
    assert target.read_bytes() == exported(store, "a")


def _full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_what_can_not_be_exported(store: ModelStore, tmp_path: Path) -> None:
    packaged(store, "a")
    with pytest.raises(ModelNotFound):
        exported(store, "b")
    with pytest.raises(BadInput):
        exported(store)
    with pytest.raises(BadInput, match="No such file"):
        export_models(store, ["a"], tmp_path / "nothing" / "x.tar")
    store.blobs.path(sha256(golden.GGUF)).unlink()
    with pytest.raises(Conflict, match="missing"):
        exported(store, "a")


def test_through_a_pipe(store: ModelStore, other: ModelStore) -> None:
    model = packaged(store, "a")
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as target:
            export_models(store, ["a"], target)

    thread = threading.Thread(target=write)
    thread.start()
    with os.fdopen(reading, "rb") as source:
        assert import_models(other, source)[0].id == model.id
        assert source.read() == b""
    thread.join(30)


def test_a_layout_made_by_hand(store: ModelStore) -> None:
    (model,) = imported(store, golden_layout())
    assert store.manifest(model.id) == golden.MANIFEST
    assert model.tags == ("docker.io/ai/golden:1",)
    assert {path.name for path in (store.root / "blobs/sha256").iterdir()} == {
        name.rpartition("/")[2] for name, _ in GOLDEN_BLOBS[:4]
    }


@pytest.mark.parametrize("reverse", [False, True])
def test_the_order_in_an_archive_means_nothing(store: ModelStore, reverse: bool) -> None:
    entries = [
        ("index.json", index_of(described(golden.MANIFEST, "ai/golden:1"))),
        *GOLDEN_BLOBS,
        ("oci-layout", LAYOUT),
    ]
    (model,) = imported(store, tar(*(reversed(entries) if reverse else entries)))
    assert model.tags == ("docker.io/ai/golden:1",)


def test_a_folder(store: ModelStore, tmp_path: Path) -> None:
    folder = unpacked(golden_layout(), tmp_path / "layout")
    (folder / "blobs/sha256" / ("0" * 64)).write_bytes(b"wrong, and asked for by nobody")
    (model,) = import_models(store, folder)
    assert store.bundle(model.id).model_file.read_bytes() == golden.GGUF
    assert not store.blobs.path("sha256:" + "0" * 64).exists()


def unpacked(content: bytes, folder: Path) -> Path:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def test_names_in_an_archive(store: ModelStore) -> None:
    """A tag alone says no repository; containerd's name goes before it."""
    for name, tags in (
        ("latest", ()),
        ("", ()),
        ("ai/x", ("docker.io/ai/x:latest",)),
        ("hf.co/Org/Repo:Q4_K_M", ("huggingface.co/Org/Repo:Q4_K_M",)),
        (f"ai/x@{sha256(golden.MANIFEST)}", ()),
    ):
        (model,) = imported(store, golden_layout(name))
        assert model.tags == tags
        store.remove(model.id)
    descriptor = described(golden.MANIFEST, "latest")
    descriptor["annotations"] = {REF_NAME: "1", "io.containerd.image.name": "docker.io/ai/y:1"}
    (model,) = imported(store, layout(index_of(descriptor), *GOLDEN_BLOBS))
    assert model.tags == ("docker.io/ai/y:1",)


def test_a_name_of_ones_own(store: ModelStore) -> None:
    content = io.BytesIO(golden_layout("latest"))
    (model,) = import_models(store, content, reference=store.reference("mine"))
    assert model.tags == ("docker.io/ai/mine:latest",)


def test_choosing_among_several(store: ModelStore, other: ModelStore) -> None:
    first, second = packaged(store, "a"), packaged(store, "b", named("b"))
    content = exported(store, "a", "b")
    with pytest.raises(BadInput, match="2 models"):
        import_models(other, io.BytesIO(content), reference=other.reference("mine"))
    with pytest.raises(ModelNotFound, match="holds no c") as caught:
        import_models(other, io.BytesIO(content), names=["c"])
    assert "docker.io/ai/a:latest" in caught.value.hint
    assert other.list() == ()
    (model,) = import_models(other, io.BytesIO(content), names=["b"])
    assert model.id == second.id
    assert len(list(other.blobs.all())) == 2
    (model,) = import_models(other, io.BytesIO(content), names=[first.id])
    assert model.id == first.id


def test_an_index_within_the_index(store: ModelStore) -> None:
    inner = index_of(described(golden.MANIFEST))
    outer = index_of(described(inner, "ai/nested", INDEX_TYPE))
    (model,) = imported(store, layout(outer, blob(inner), *GOLDEN_BLOBS))
    assert model.tags == ("docker.io/ai/nested:latest",)
    deep, blobs = inner, [blob(inner)]
    for _ in range(6):
        deep = index_of(described(deep, "", INDEX_TYPE))
        blobs.append(blob(deep))
    with pytest.raises(BadModelFile, match="nested more than 4"):
        imported(store, layout(deep, *blobs, *GOLDEN_BLOBS))


def test_docker_model_runner_s_own_archive(store: ModelStore) -> None:
    content = tar(
        header("blobs", tarfile.DIRTYPE), *GOLDEN_BLOBS[:4], ("manifest.json", golden.MANIFEST)
    )
    (model,) = imported(store, content)
    assert store.manifest(model.id) == golden.MANIFEST
    assert model.tags == ()


def test_what_is_there_already_is_not_written_again(store: ModelStore) -> None:
    imported(store, golden_layout())
    path = store.blobs.path(sha256(golden.GGUF))
    before = path.stat().st_ino
    imported(store, golden_layout("ai/again"))
    assert path.stat().st_ino == before


IMAGE_CONFIG = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
IMAGE = json.dumps(
    {
        "schemaVersion": 2,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": sha256(IMAGE_CONFIG),
            "size": len(IMAGE_CONFIG),
        },
        "layers": [],
    }
).encode()
WRONG = golden.GGUF[:-1] + b"!"
OF_GOLDEN = index_of(described(golden.MANIFEST, "ai/x"))


def without(content: bytes) -> tuple[tuple[str, bytes], ...]:
    return tuple(entry for entry in GOLDEN_BLOBS if entry[1] is not content)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"", BadModelFile, "cut short"),
        (b"no tar at all" * 100, BadModelFile, "no readable tar"),
        (golden_layout()[:3000], BadModelFile, "cut short"),
        (golden_layout() + b"more", BadModelFile, "after its end"),
        (gzip.compress(golden_layout()), BadInput, "compressed"),
        (tar(), BadModelFile, "neither an OCI layout nor"),
        (tar(("manifest.json", b'[{"Config":"x"}]')), BadModelFile, "neither an OCI layout nor"),
        (tar(("index.json", OF_GOLDEN), *GOLDEN_BLOBS), BadModelFile, "no OCI layout of version"),
        (tar(("oci-layout", b"{}"), ("index.json", OF_GOLDEN)), BadModelFile, "of version 1.0.0"),
        (layout(b"<html>", *GOLDEN_BLOBS), BadModelFile, "web page"),
        (layout(b"{}", *GOLDEN_BLOBS), BadModelFile, "no usable list"),
        (layout(b'{"manifests":[1]}'), BadModelFile, "lists what is no manifest"),
        (layout(b'{"manifests":[{"digest":"md5:x"}]}'), BadModelFile, "without a sha256"),
        (layout(b'{"manifests":[]}', *GOLDEN_BLOBS), BadModelFile, "holds no model"),
        (layout(OF_GOLDEN, *without(golden.MANIFEST)), BadModelFile, "lacks the file"),
        (layout(OF_GOLDEN, *without(golden.GGUF)), BadModelFile, "lacks the file"),
        (layout(OF_GOLDEN, *without(golden.CONFIG)), BadModelFile, "lacks the file"),
        (
            layout(OF_GOLDEN, *without(golden.GGUF), (blob(golden.GGUF)[0], WRONG)),
            CorruptTransfer,
            "came as",
        ),
        (
            layout(OF_GOLDEN, *without(golden.GGUF), (blob(golden.GGUF)[0], WRONG[:-1])),
            CorruptTransfer,
            "came as",
        ),
        (
            layout(index_of(described(golden.MANIFEST) | {"size": 7}), *GOLDEN_BLOBS),
            CorruptTransfer,
            "7 were announced",
        ),
        (
            layout(index_of(described(golden.MANIFEST) | {"size": 2**40}), *GOLDEN_BLOBS),
            BadModelFile,
            "a manifest of",
        ),
        (
            layout(index_of(described(IMAGE, "alpine/x")), blob(IMAGE), blob(IMAGE_CONFIG)),
            BadModelFile,
            "alpine/x in the archive: this is a container image, not a model",
        ),
        (layout(OF_GOLDEN, *GOLDEN_BLOBS, GOLDEN_BLOBS[0]), BadModelFile, "twice"),
        (tar(("../index.json", b"{}")), BadModelFile, "path can't be used"),
        (tar(("/etc/x", b"")), BadModelFile, "path can't be used"),
        (tar(header("blobs/x", tarfile.SYMTYPE, linkname="/etc")), BadModelFile, "symbolic link"),
        (tar(header("blobs/x", tarfile.LNKTYPE, linkname="/etc")), BadModelFile, "hard link"),
        (tar(header("blobs/x", tarfile.CHRTYPE)), BadModelFile, "device"),
    ],
)
def test_what_is_no_archive_of_models(
    store: ModelStore, content: bytes, error: type[RunnerError], message: str
) -> None:
    """Nothing of it stays, and what was there before does."""
    model = packaged(store, "mine", named("mine"))
    before = files(store.root)
    with pytest.raises(error, match=message):
        imported(store, content)
    assert files(store.root) == before
    assert [m.id for m in store.list()] == [model.id]


def test_an_image_beside_a_model(store: ModelStore) -> None:
    index = index_of(described(golden.MANIFEST, "ai/x"), described(IMAGE, "alpine/x"))
    content = layout(index, blob(IMAGE), blob(IMAGE_CONFIG), *GOLDEN_BLOBS)
    with pytest.raises(BadModelFile, match="container image"):
        imported(store, content)
    assert store.list() == ()
    (model,) = import_models(store, io.BytesIO(content), names=["ai/x"])
    assert model.tags == ("docker.io/ai/x:latest",)
    assert len(list(store.blobs.all())) == 4


def test_nothing_is_named_before_everything_is_in(store: ModelStore) -> None:
    """The first of two models is whole, the second lacks a file."""
    incomplete = golden.MANIFEST.replace(b'"schemaVersion"', b' "schemaVersion"').replace(
        sha256(golden.LICENSE).encode(), sha256(b"nowhere").encode()
    )
    index = index_of(described(golden.MANIFEST, "ai/a"), described(incomplete, "ai/b"))
    with pytest.raises(BadModelFile, match="lacks the file"):
        imported(store, layout(index, blob(incomplete), *GOLDEN_BLOBS))
    assert store.list() == ()
    assert files(store.root) == set()


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda folder: (folder / GOLDEN_BLOBS[1][0]).write_bytes(WRONG), CorruptTransfer),
        (lambda folder: (folder / GOLDEN_BLOBS[1][0]).unlink(), BadModelFile),
        (lambda folder: _linked(folder / GOLDEN_BLOBS[1][0]), BadModelFile),
        (lambda folder: (folder / "index.json").unlink(), BadModelFile),
    ],
)
def test_a_folder_that_is_wrong(
    store: ModelStore, tmp_path: Path, damage: Callable[[Path], object], error: type[RunnerError]
) -> None:
    folder = unpacked(golden_layout(), tmp_path / "layout")
    damage(folder)
    with pytest.raises(error):
        import_models(store, folder)
    assert files(store.root) == set()


def _linked(path: Path) -> None:
    moved = path.with_name("elsewhere")
    path.rename(moved)
    path.symlink_to(moved)


def test_no_file_at_all(store: ModelStore, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such file"):
        import_models(store, tmp_path / "nothing.tar")


def test_memory_is_bounded(store: ModelStore, other: ModelStore, tmp_path: Path) -> None:
    big = tmp_path / "big.tar"
    packaged(store, "a", named("a") + bytes(64 * 1024 * 1024))
    tracemalloc.start()
    export_models(store, ["a"], big)
    import_models(other, big)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 1024 * 1024


def killed_export(target: Path) -> Path:
    left = target.with_name(f".{target.name}.0123456789abcdef")
    left.write_bytes(b"half")
    return left


def test_what_a_killed_export_left_goes_with_the_next(store: ModelStore, tmp_path: Path) -> None:
    packaged(store, "a")
    target = tmp_path / "a[1].tar"
    left, others = killed_export(target), killed_export(tmp_path / "other.tar")
    export_models(store, ["a"], target)
    assert not left.exists()
    assert others.exists()


def test_what_a_living_export_writes_stays(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One export begins and ends while another to the same name is under way."""
    packaged(store, "a")
    target = tmp_path / "a.tar"
    write = archive_module._write_blob

    def export_meanwhile(
        store: ModelStore, archive: archive_module._Archive, digest: str, size: int
    ) -> None:
        monkeypatch.setattr(archive_module, "_write_blob", write)
        export_models(store, ["a"], target)
        target.unlink()
        write(store, archive, digest, size)

    monkeypatch.setattr(archive_module, "_write_blob", export_meanwhile)
    export_models(store, ["a"], target)
    assert target.read_bytes() == exported(store, "a")
    assert list(tmp_path.glob(".*")) == []


class Meanwhile(io.BytesIO):
    """An archive at whose end something else happens."""

    def __init__(self, content: bytes, action: Callable[[], object]) -> None:
        super().__init__(content)
        self._action = action

    def read(self, size: int | None = -1, /) -> bytes:
        part = super().read(size)
        if not part:
            self._action()
        return part


def test_a_prune_meanwhile_leaves_what_is_imported(store: ModelStore) -> None:
    source = Meanwhile(golden_layout(), lambda: store.prune(everything=True))
    (model,) = import_models(store, source)
    assert store.bundle(model.id).model_file.read_bytes() == golden.GGUF


def test_a_removal_meanwhile_is_said(store: ModelStore) -> None:
    """The archive lacks nothing; its blobs were there, and are gone when it ends."""
    imported(store, golden_layout())
    with pytest.raises(Conflict, match="removed from the store meanwhile"):
        import_models(store, Meanwhile(golden_layout(), store.purge))
    assert files(store.root) == set()


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_file_is_read_again_after_a_removal_meanwhile(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_folder: bool
) -> None:
    imported(store, golden_layout())
    source = tmp_path / "a.tar"
    source.write_bytes(golden_layout())
    if is_folder:
        source = unpacked(golden_layout(), tmp_path / "layout")
    enter = store.enter

    def purge_first(additions: Sequence[Addition]) -> tuple[StoredModel, ...]:
        monkeypatch.setattr(store, "enter", enter)
        store.purge()
        return enter(additions)

    monkeypatch.setattr(store, "enter", purge_first)
    (model,) = import_models(store, source)
    assert store.bundle(model.id).model_file.read_bytes() == golden.GGUF


def test_many_large_manifests_are_refused_in_little_memory(
    store: ModelStore, tmp_path: Path
) -> None:
    manifests = [golden.MANIFEST + b" " * (3 * 1024 * 1024 + number) for number in range(16)]
    index = index_of(*(described(m, f"ai/m{n}") for n, m in enumerate(manifests)))
    source = tmp_path / "many.tar"
    source.write_bytes(layout(index, *map(blob, manifests), *GOLDEN_BLOBS))
    del manifests
    tracemalloc.start()
    try:
        with pytest.raises(BadModelFile, match="more than 32 MiB of manifests"):
            import_models(store, source)
        peak = tracemalloc.get_traced_memory()[1]
        (model,) = import_models(store, source, names=["ai/m3"])
    finally:
        tracemalloc.stop()
    assert peak < 44 * 1024 * 1024
    assert model.tags == ("docker.io/ai/m3:latest",)


def test_an_index_too_large_is_not_parsed(store: ModelStore) -> None:
    index = b'{"manifests":[' + b"{}," * (5 * 1024 * 1024 // 3) + b"{}]}"
    with pytest.raises(BadModelFile, match=r"index\.json of"):
        imported(store, layout(index))


def run(*command: str, cwd: Path) -> str:
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def archive(store: ModelStore, tmp_path: Path) -> Path:
    (tmp_path / "golden").mkdir()
    imported(store, golden_layout("ai/golden:1"))
    export_models(store, ["ai/golden:1"], tmp_path / "x.tar")
    return tmp_path / "x.tar"


def test_skopeo_opens_ours(
    archive: Path, other: ModelStore, registry: str, settings: Settings, tmp_path: Path
) -> None:
    goal = f"{registry}/skopeo/golden:1"
    for source in ("oci-archive:x.tar", "oci-archive:x.tar:docker.io/ai/golden:1"):
        command = ("copy", "--preserve-digests", "--dest-tls-verify=false", source)
        run(tool("skopeo"), *command, f"docker://{goal}", cwd=tmp_path)
    assert pull(other, parse(goal), settings).id == sha256(golden.MANIFEST)


def test_skopeo_s_archive_is_read(
    archive: Path, other: ModelStore, registry: str, tmp_path: Path
) -> None:
    goal = f"oci-archive:{tmp_path / 'theirs.tar'}:docker.io/ai/theirs:2"
    run(tool("skopeo"), "copy", "--preserve-digests", "oci-archive:x.tar", goal, cwd=tmp_path)
    (model,) = import_models(other, tmp_path / "theirs.tar")
    assert model.id == sha256(golden.MANIFEST)
    assert model.tags == ("docker.io/ai/theirs:2",)


def test_crane_pushes_ours(
    archive: Path, other: ModelStore, registry: str, settings: Settings, tmp_path: Path
) -> None:
    goal = f"{registry}/crane/golden:1"
    unpacked(archive.read_bytes(), tmp_path / "layout")
    run(tool("crane"), "push", "--insecure", "layout", goal, cwd=tmp_path)
    assert pull(other, parse(goal), settings).id == sha256(golden.MANIFEST)
    run(tool("crane"), "pull", "--insecure", "--format", "oci", goal, "theirs", cwd=tmp_path)
    assert import_models(ModelStore(tmp_path / "third"), tmp_path / "theirs")[0].id == (
        sha256(golden.MANIFEST)
    )


def test_oras_opens_ours_and_we_read_its_layout(
    archive: Path, other: ModelStore, registry: str, settings: Settings, tmp_path: Path
) -> None:
    goal = f"{registry}/oras/golden:1"
    source = f"x.tar@{sha256(golden.MANIFEST)}"
    run(tool("oras"), "cp", "--from-oci-layout", "--to-plain-http", source, goal, cwd=tmp_path)
    assert pull(other, parse(goal), settings).id == sha256(golden.MANIFEST)
    run(tool("oras"), "cp", "--from-plain-http", goal, "--to-oci-layout", "theirs:2", cwd=tmp_path)
    (model,) = import_models(other, tmp_path / "theirs", reference=parse("ai/theirs:2"))
    assert "docker.io/ai/theirs:2" in model.tags

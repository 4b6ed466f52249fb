"""What strangers may hand us, from a registry and as files: each is refused for a reason that is
said, nothing is written outside the store, and nothing that was there is lost."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.artifacts.media import CONFIG_CNCF
from runner.errors import BadModelFile, RegistryError, RunnerError
from runner.models.transfer import pull
from runner.registry.reference import Reference
from runner.settings import Settings
from runner.store.archive import import_models
from runner.store.store import ModelStore
from tests.artifacts import golden
from tests.models.packaging import package_gguf
from tests.models.remote import remote
from tests.registry import faults
from tests.registry.server import Registry, digest_of, running
from tests.store import tars
from tests.weights.gguf_bytes import gguf

MIB = 1024 * 1024
FOLDER = "application/vnd.docker.ai.model.config.v0.2+json"
IMAGE = "application/vnd.oci.image.config.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
PATH = "org.cncf.model.filepath"


@pytest.fixture
def server() -> Iterator[Registry]:
    with running(Registry()) as registry:
        yield registry


@pytest.fixture
def reference(server: Registry) -> Reference:
    return Reference(server.address, "a/b", "bad")


@pytest.fixture
def kept(store: ModelStore, server: Registry, settings: Settings) -> ModelStore:
    """The store with one good model in it, that must outlive everything."""
    remote(b"a good one").serve(server, "a/b/good")
    pull(store, Reference(server.address, "a/b", "good"), settings)
    return store


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder, and what it holds."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def untouched(kept: ModelStore, tmp_path: Path) -> Callable[[], None]:
    """Checks that nothing has changed but for whole blobs and journals of broken pulls."""
    before = tree(tmp_path)

    def check() -> None:
        after = tree(tmp_path)
        assert {name: after.get(name) for name in before} == before
        new = [path for path in after if path not in before]
        blobs = [path for path in new if path.startswith("models/blobs/sha256/")]
        assert [path for path in blobs if after[path] != Path(path).name] == []
        assert [path for path in new if path not in blobs and "/partial/" not in path] == []
        assert [model.tags[0].rpartition(":")[2] for model in kept.list()] == ["good"]

    return check


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    """The golden manifest with something else in it."""
    document = json.loads(golden.MANIFEST)
    change(document)
    return json.dumps(document).encode()


def with_path(path: str, layer: int = 0) -> bytes:
    return changed(lambda d: d["layers"][layer]["annotations"].update({PATH: path}))


def twice(path: str) -> bytes:
    """A folder that has a path twice; v0.1 lays files out by their kinds."""

    def change(document: dict[str, Any]) -> None:
        document["config"]["mediaType"] = FOLDER
        for layer in document["layers"]:
            layer["annotations"][PATH] = path

    return changed(change)


def index(*digests: str) -> bytes:
    entries = [
        {
            "digest": digest,
            "size": 1,
            "mediaType": "x",
            "platform": {"os": "linux", "variant": str(n)},
        }
        for n, digest in enumerate(digests)
    ]
    document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
    return json.dumps(document).encode()


MANIFESTS: dict[str, tuple[bytes, str]] = {
    "path that leads out": (with_path("../../etc/x"), r"leads out .*\.\./\.\./etc/x"),
    "path that leads out inside": (with_path("a/../../x"), "leads out"),
    "absolute path": (with_path("/etc/x"), "leads out .*/etc/x"),
    "path of another system": (with_path("C:\\x"), "leads out"),
    "duplicate path": (twice("golden.gguf"), "share the path 'golden.gguf'"),
    "no name at all": (with_path("\0"), "no usable file name"),
    "image": (changed(lambda d: d["config"].update(mediaType=IMAGE)), "container image"),
    "other artifact": (changed(lambda d: d["config"].update(mediaType="a/b")), "type 'a/b'"),
    "no weights": (changed(lambda d: d["layers"].pop(0)), "no model weights"),
    "index": (index(digest_of(b"1"), digest_of(b"2")), "image index"),
    "empty index": (index(), "image index"),
    "no JSON": (b"hello", "not JSON"),
    "deep": (b"[" * 100_000, "not JSON"),
    "list": (b"[]", "no JSON object"),
    "nothing": (b"", "not JSON"),
    "negative size": (changed(lambda d: d["layers"][0].update(size=-1)), "no usable size"),
    "absurd size": (changed(lambda d: d["layers"][0].update(size=2**62)), "no usable size"),
    "two sizes": (
        changed(lambda d: d["layers"].append(d["layers"][0] | {"size": 5, "annotations": {}})),
        "two sizes",
    ),
    "other digest": (changed(lambda d: d["layers"][0].update(digest="md5:1")), "no sha256 digest"),
    "path for a digest": (
        changed(lambda d: d["layers"][0].update(digest="sha256:../../../../etc/passwd")),
        "no sha256 digest",
    ),
    "large config": (changed(lambda d: d["config"].update(size=2**40)), "config has"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_bad_manifests(
    kept: ModelStore,
    server: Registry,
    reference: Reference,
    settings: Settings,
    untouched: Callable[[], None],
    name: str,
) -> None:
    content, words = MANIFESTS[name]
    for blob in (golden.GGUF, golden.CONFIG, golden.CHAT_TEMPLATE, golden.LICENSE):
        server.add_blob(blob)
    server.manifests["a/b/bad"] = content
    with pytest.raises(BadModelFile, match=words) as caught:
        pull(kept, reference, settings)
    assert "\n" not in caught.value.message
    untouched()
    assert server.seen("GET", digest_of(golden.GGUF)) == []


def test_a_manifest_of_100_mb_is_not_read_to_its_end(
    kept: ModelStore,
    server: Registry,
    reference: Reference,
    settings: Settings,
    untouched: Callable[[], None],
) -> None:
    server.faults.append(("GET .*/manifests/", faults.endless(100 * MIB)))
    with pytest.raises(RegistryError, match="larger than 4 MiB"):
        pull(kept, reference, settings)
    untouched()


@pytest.mark.parametrize("place", ["/manifests/", "/blobs/"])
def test_web_pages(
    kept: ModelStore,
    server: Registry,
    reference: Reference,
    settings: Settings,
    untouched: Callable[[], None],
    place: str,
) -> None:
    remote(b"weights").serve(server, "a/b/bad")
    server.lasting.append((f"GET .*{place}", faults.web_page))
    with pytest.raises(RegistryError, match="web page"):
        pull(kept, reference, settings)
    untouched()


ENTRIES: dict[str, tuple[bytes, str]] = {
    "leads out": (tars.tar(("../../../../etc/x", b"!")), r"can't be used: '\.\./"),
    "absolute": (tars.tar(("/tmp/x", b"!")), "can't be used: '/tmp/x'"),
    "twice": (tars.tar(("m.gguf", b"1"), ("m.gguf", b"2")), "name 'm.gguf'"),
    "symbolic link": (
        tars.tar(tars.header("m.gguf", b"2", linkname="/etc/passwd")),
        "link",
    ),
    "hard link": (tars.tar(tars.header("m.gguf", b"1", linkname="/etc/passwd")), "link"),
    "device": (tars.tar(tars.header("m.gguf", b"3")), "m.gguf"),
    "cut short": (tars.tar(("m.gguf", bytes(5000)))[:2000], "cut short|damaged|ends"),
    "no archive": (b"hello" * 1000, "archive|tar"),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_bad_archives_are_pulled_and_never_unpacked(
    kept: ModelStore,
    server: Registry,
    reference: Reference,
    settings: Settings,
    tmp_path: Path,
    name: str,
) -> None:
    content, words = ENTRIES[name]
    serve_archive(server, content)
    model = pull(kept, reference, settings)
    before = tree(tmp_path)
    with pytest.raises(BadModelFile, match=words) as caught:
        kept.bundle(model.id)
    assert "\n" not in caught.value.message
    assert tree(tmp_path) == before


def serve_archive(server: Registry, content: bytes) -> None:
    kind = "application/vnd.cncf.model.weight.v1.tar"
    digest, size = server.add_blob(content), len(content)

    def change(document: dict[str, Any]) -> None:
        document["config"]["mediaType"] = CONFIG_CNCF
        document["layers"] = [{"mediaType": kind, "digest": digest, "size": size}]

    server.add_blob(golden.CONFIG)
    server.manifests["a/b/bad"] = changed(change)


HEAD = b"GGUF" + struct.pack("<I", 3)
FILES: dict[str, tuple[bytes, str, str]] = {
    "legacy": (b"tjgg\x03\0\0\0" + bytes(64), "GGJT file, the format before GGUF", "convert"),
    "absurd tensors": (HEAD + struct.pack("<QQ", 2**60, 0), "claims 1152921504606846976", ""),
    "absurd entries": (HEAD + struct.pack("<QQ", 0, 2**60), "metadata entries", ""),
    "cut short": (gguf()[:-3], "cut short", "again"),
    "web page": (b"<!doctype html><html>", "web page", "download"),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid", "LFS", "git lfs pull"),
    "empty": (b"", "empty", "again"),
}


@pytest.mark.parametrize("name", FILES)
def test_bad_files_are_not_packaged(
    kept: ModelStore, tmp_path: Path, reference: Reference, name: str
) -> None:
    content, words, hint = FILES[name]
    source = tmp_path / "m.gguf"
    source.write_bytes(content)
    before = tree(tmp_path)
    with pytest.raises(RunnerError, match=words) as caught:
        package_gguf(kept, source, reference)
    assert caught.value.message.startswith("m.gguf ")
    assert hint in caught.value.hint
    assert tree(tmp_path) == before


def blob(content: bytes) -> tuple[str, bytes]:
    return f"blobs/sha256/{digest_of(content).partition(':')[2]}", content


def layout(*entries: tars.Entry, manifest: bytes = golden.MANIFEST) -> bytes:
    """An OCI layout of one manifest, and whatever else is to lie in it."""
    descriptor = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest_of(manifest),
        "size": len(manifest),
        "annotations": {"org.opencontainers.image.ref.name": "hand/made:1"},
    }
    document = {"schemaVersion": 2, "manifests": [descriptor]}
    return tars.tar(
        ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
        ("index.json", json.dumps(document).encode()),
        blob(manifest),
        *entries,
    )


PARTS = [blob(part) for part in (golden.CONFIG, golden.CHAT_TEMPLATE, golden.LICENSE)]
WEIGHTS = blob(golden.GGUF)
LAYOUTS: dict[str, bytes] = {
    "missing blob": layout(*PARTS),
    "other bytes": layout(*PARTS, (WEIGHTS[0], bytes(len(golden.GGUF)))),
    "cut short": layout(*PARTS, WEIGHTS)[:-11_000],
    "short blob": layout(*PARTS, (WEIGHTS[0], golden.GGUF[:-1])),
    "symbolic link": layout(*PARTS, tars.header(WEIGHTS[0], b"2", linkname="/etc/passwd")),
    "image": layout(*PARTS, WEIGHTS, manifest=MANIFESTS["image"][0]),
    "path that leads out": layout(*PARTS, WEIGHTS, manifest=MANIFESTS["path that leads out"][0]),
    "no layout": tars.tar(("hello", b"there")),
    "no archive": b"hello" * 1000,
    "web page": faults.PAGE,
    "nothing": b"",
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_bad_archives_are_not_imported(kept: ModelStore, tmp_path: Path, name: str) -> None:
    source = tmp_path / "layout.tar"
    source.write_bytes(LAYOUTS[name])
    before = tree(tmp_path)
    with pytest.raises(RunnerError) as caught:
        import_models(kept, source)
    assert caught.value.message
    assert "\n" not in caught.value.message
    after = tree(tmp_path)
    assert {path: after.get(path) for path in before} == before
    new = [path for path in after if path not in before]
    assert new == []


def test_a_good_archive_with_more_in_it_than_was_asked_for(
    kept: ModelStore, tmp_path: Path
) -> None:
    """What leads out of the folder is nobody's business: it is never written anywhere."""
    source = tmp_path / "layout.tar"
    source.write_bytes(layout(*PARTS, WEIGHTS, ("../../outside", b"!"), ("/tmp/outside", b"!")))
    before = set(tmp_path.parent.glob("*"))
    try:
        import_models(kept, source)
    except RunnerError as error:
        assert "outside" in error.message
    assert set(tmp_path.parent.glob("*")) == before
    assert not Path("/tmp/outside").exists()
    assert not list(tmp_path.rglob("outside"))

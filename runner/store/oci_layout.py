"""OCI image layouts, in a tar archive or a folder: what they name, and their blobs into the store.

https://github.com/opencontainers/image-spec/blob/main/image-layout.md. Docker Model Runner's own
archives are read too: the same blobs, and `manifest.json` for the one manifest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from runner.artifacts.artifact import MAX_BLOB, MAX_MANIFEST
from runner.artifacts.documents import Json, inner_object, json_object, text_of
from runner.artifacts.image_index import is_index
from runner.errors import BadInput, BadModelFile, Conflict, CorruptTransfer
from runner.registry.digest import PREFIX, digest_of, hex_of, is_digest
from runner.registry.media import DOCKER_INDEX, OCI_INDEX
from runner.store.blobs import Blobs
from runner.store.files import explained
from runner.store.tar_stream import Readable, TarEntry, TarStream

LAYOUT, INDEX, DMR_MANIFEST = "oci-layout", "index.json", "manifest.json"
VERSION = "1.0.0"
BLOBS = "blobs/sha256/"
REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"
MAX_DOCUMENT = 4 * 1024 * 1024
MAX_DOCUMENTS = 32 * 1024 * 1024
MAX_ENTRIES = 100_000
MAX_MANIFESTS = 20_000
MAX_DEPTH = 4
_DOCUMENTS = frozenset({LAYOUT, INDEX, DMR_MANIFEST})
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True, slots=True)
class Found:
    """A manifest that a layout names; it is in the store, as a blob. `names` are as the index
    writes them."""

    digest: str
    names: tuple[str, ...] = ()


class Allowance:
    """Bytes of documents that may still be read of one archive: they are in memory together."""

    def __init__(self) -> None:
        self._left = MAX_DOCUMENTS

    def take(self, size: int) -> None:
        """Raises BadModelFile where that is too much."""
        self._left -= size
        if self._left < 0:
            raise _bad(f"has more than {MAX_DOCUMENTS // 2**20} MiB of manifests and configs")


class Layout(Protocol):
    """Where a layout's documents and blobs come from."""

    added: set[str]
    """Digests of blobs that were not in the store before."""

    def document(self, name: str) -> bytes | None:
        """One of the layout's own files."""

    def bring(self, digest: str, size: int | None = None) -> int:
        """Sees to it that a blob is in the store, checked; its size. Raises CorruptTransfer,
        BadModelFile where the layout lacks it, Conflict where it was removed meanwhile."""


class TarLayout:
    """Takes every blob of the archive as it streams by: what they are for is said at its end."""

    def __init__(self, blobs: Blobs, source: Readable) -> None:
        self.added: set[str] = set()
        self._blobs = blobs
        self._documents: dict[str, bytes] = {}
        self._seen: set[str] = set()
        self._stream = TarStream(_Begun(source), _bad)

    def read(self) -> None:
        """Raises BadModelFile for an archive that is damaged or holds what it must not,
        CorruptTransfer, DiskFull."""
        for entry in self._stream.entries():
            if entry.is_folder:
                continue
            if entry.name in self._seen:
                raise _bad(f"holds {entry.name!r} twice")
            self._seen.add(entry.name)
            if len(self._seen) > MAX_ENTRIES:
                raise _bad(f"holds more than {MAX_ENTRIES} files")
            self._take(entry)
        self._stream.finish()  # whoever writes into a pipe would fail otherwise

    def document(self, name: str) -> bytes | None:
        return self._documents.get(name)

    def bring(self, digest: str, size: int | None = None) -> int:
        if BLOBS + hex_of(digest) not in self._seen:
            raise _lacks(digest)
        return _present(self._blobs, digest, size)

    def _take(self, entry: TarEntry) -> None:
        content = self._stream.content(entry.size)
        digest = PREFIX + entry.name.removeprefix(BLOBS)
        if entry.name in _DOCUMENTS:
            if entry.size > MAX_DOCUMENT:
                raise _bad(f"has a {entry.name} of {entry.size} bytes")
            self._documents[entry.name] = b"".join(content)
        elif entry.name.startswith(BLOBS) and is_digest(digest):
            self._take_blob(digest, entry.size, content)
        else:
            _skip(content)

    def _take_blob(self, digest: str, size: int, content: Iterator[bytes]) -> None:
        if self._blobs.size(digest) == size:
            _skip(content)
            return
        self.added.add(digest)
        self._blobs.require_space(size)
        with self._blobs.writer(digest, size) as writer:
            for part in content:
                writer.write(part)


def _skip(content: Iterator[bytes]) -> None:
    for _ in content:
        pass


class FolderLayout:
    """Takes the blobs that are asked for."""

    def __init__(self, blobs: Blobs, folder: Path) -> None:
        self.added: set[str] = set()
        self._blobs = blobs
        self._folder = folder

    def document(self, name: str) -> bytes | None:
        path = self._folder / name
        with explained(path):
            if not _is_plain(path):
                return None
            if path.stat().st_size > MAX_DOCUMENT:
                raise _bad(f"has a {name} of {path.stat().st_size} bytes")
            return path.read_bytes()

    def bring(self, digest: str, size: int | None = None) -> int:
        path = self._folder / BLOBS / hex_of(digest)
        known = self._blobs.size(digest)
        if known is None or (size is not None and known != size):
            if not _is_plain(path):
                raise _lacks(digest)
            found, _ = self._blobs.add_file(path)
            if found != digest:
                self.added.add(found)
                raise CorruptTransfer(f"{path} holds {found} instead", hint="copy it again")
            self.added.add(digest)
        return _present(self._blobs, digest, size)


def manifests(layout: Layout, blobs: Blobs) -> tuple[Found, ...]:
    """Every manifest of a layout, each once. Raises BadModelFile, CorruptTransfer."""
    index = layout.document(INDEX)
    if index is None:
        return (_docker_manifest(layout, blobs),)
    stated = layout.document(LAYOUT)
    version = json_object(stated, MAX_DOCUMENT, LAYOUT) if stated is not None else {}
    if text_of(version.get("imageLayoutVersion")).partition(".")[0] != VERSION.partition(".")[0]:
        raise _bad(f"is no OCI layout of version {VERSION}")
    found: dict[str, Found] = {}
    for descriptor, names in _Indexes(layout, blobs).descriptors(index, (), 0):
        digest = _digest(descriptor)
        known = found.get(digest)
        if known is None:
            _bring(layout, descriptor)
        merged = dict.fromkeys((*(known.names if known else ()), *names))
        found[digest] = Found(digest, tuple(merged))
    return tuple(found.values())


def read_document(blobs: Blobs, digest: str) -> bytes:
    """A blob that was brought. Raises Conflict where it was removed meanwhile."""
    try:
        return blobs.read(digest)
    except FileNotFoundError as error:
        raise _removed(digest) from error


class _Indexes:
    """The index of a layout and those within it."""

    def __init__(self, layout: Layout, blobs: Blobs) -> None:
        self._layout = layout
        self._blobs = blobs
        self._allowance = Allowance()

    def descriptors(
        self, index: bytes, names: tuple[str, ...], depth: int
    ) -> Iterator[tuple[Mapping[str, Json], tuple[str, ...]]]:
        """Descriptors of manifests with their names; the name of an index that holds one
        manifest is that manifest's."""
        if depth > MAX_DEPTH:
            raise _bad(f"holds indexes nested more than {MAX_DEPTH} deep")
        listed = json_object(index, MAX_DOCUMENT, "index").get("manifests")
        if not isinstance(listed, list) or len(listed) > MAX_MANIFESTS:
            raise _bad("has no usable list of manifests")
        for descriptor in listed:
            if not isinstance(descriptor, dict):
                raise _bad("lists what is no manifest")
            own = _names(descriptor) or (names if len(listed) == 1 else ())
            if text_of(descriptor.get("mediaType")) in {OCI_INDEX, DOCKER_INDEX}:
                yield from self.descriptors(self._inner(descriptor), own, depth + 1)
            else:
                yield descriptor, own

    def _inner(self, descriptor: Mapping[str, Json]) -> bytes:
        self._allowance.take(_bring(self._layout, descriptor))
        return read_document(self._blobs, _digest(descriptor))


def _bring(layout: Layout, descriptor: Mapping[str, Json]) -> int:
    """Brings a manifest or an index of the digest and the size that its descriptor says."""
    digest, size = _digest(descriptor), descriptor.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_BLOB:
        raise _bad(f"gives {digest} no usable size")
    if size > MAX_MANIFEST:
        raise _bad(f"has a manifest of {size} bytes")
    return layout.bring(digest, size)


def _docker_manifest(layout: Layout, blobs: Blobs) -> Found:
    """Docker Model Runner's archive; `docker save` writes a list into a file of this name."""
    content = layout.document(DMR_MANIFEST)
    if content is None or content.lstrip()[:1] == b"[":
        raise BadModelFile(
            "this is neither an OCI layout nor a model's archive: it has no index.json",
            hint="runner export writes one, and so do skopeo (oci-archive:) and oras",
        )
    if is_index(json_object(content, MAX_MANIFEST, "manifest")):
        raise _bad("has an index where its manifest should be")
    digest = digest_of(content)
    if blobs.size(digest) is None:
        layout.added.add(digest)
    return Found(blobs.add_bytes(content))


def _names(descriptor: Mapping[str, Json]) -> tuple[str, ...]:
    """The whole name where it is written, as containerd does; else what may be only a tag."""
    annotations = inner_object(descriptor, "annotations")
    name = text_of(annotations.get(CONTAINERD_NAME)) or text_of(annotations.get(REF_NAME))
    return (name,) if name else ()


def _digest(descriptor: Mapping[str, Json]) -> str:
    digest = text_of(descriptor.get("digest"))
    if not is_digest(digest):
        raise _bad("lists a manifest without a sha256 digest")
    return digest


def _present(blobs: Blobs, digest: str, size: int | None) -> int:
    found = blobs.size(digest)
    if found is None:
        raise _removed(digest)
    if size is not None and found != size:
        raise CorruptTransfer(
            f"{digest} has {found} bytes, {size} were announced",
            hint="write or copy the archive again",
        )
    return found


class _Begun:
    """A source whose first bytes are looked at: people give compressed archives too."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._is_begun = False

    def read(self, size: int, /) -> bytes:
        content = self._source.read(size)
        if not self._is_begun and content.startswith((_GZIP, _ZSTD)):
            tool = "gunzip" if content.startswith(_GZIP) else "unzstd"
            raise BadInput("the archive is compressed", hint=f"unpack it first: {tool} FILE")
        self._is_begun = True
        return content


def _is_plain(path: Path) -> bool:
    """A link in a layout could lead anywhere."""
    return path.is_file() and not path.is_symlink()


def _bad(what: str) -> BadModelFile:
    return BadModelFile(f"the archive {what}", hint="write or copy it again")


def _lacks(digest: str) -> BadModelFile:
    return _bad(f"lacks the file {digest}")


def _removed(digest: str) -> Conflict:
    return Conflict(
        f"the file {digest} was removed from the store meanwhile", hint="import the archive again"
    )

"""models.json: which models the store holds and what they are called; its lock and layout."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from runner.errors import Conflict, InUse, SchemaTooNew
from runner.models.artifact import ModelConfig
from runner.models.files import explained, write_whole
from runner.models.media import ModelFormat

LAYOUT_VERSION = "1.0.0"
LOCK_TIMEOUT = 60.0
_LOCK_POLL = 0.02


@dataclass(frozen=True, slots=True)
class Entry:
    """One model. `id` is its manifest's digest, `tags` are long spellings, `files` the digests
    of all its blobs; `config` is without GGUF metadata, which would make listing slow."""

    id: str
    tags: tuple[str, ...]
    files: tuple[str, ...]
    created: int = 0
    size: int = 0
    config: ModelConfig = field(default_factory=lambda: ModelConfig(ModelFormat.GGUF))

    def untagged(self, tag: str) -> Entry:
        return replace(self, tags=tuple(other for other in self.tags if other != tag))

    def tagged(self, tag: str) -> Entry:
        return self if tag in self.tags else replace(self, tags=(*self.tags, tag))


Entries = tuple[Entry, ...]
Generation = tuple[int, int, int]
"""Changes whenever the index does: modification time, inode, size; zeros for no index yet."""


class Index:
    """The file, read afresh when it has changed; changed only while `locked`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._file = root / "models.json"
        self._layout = root / "layout.json"
        self._lock_file = root / "lock"
        self._cache: tuple[Generation, Entries] | None = None

    def generation(self) -> Generation:
        try:
            status = self._file.stat()
        except FileNotFoundError:
            return (0, 0, 0)
        return (status.st_mtime_ns, status.st_ino, status.st_size)

    def entries(self) -> Entries:
        """Raises SchemaTooNew for a newer program's store, Conflict for an unreadable index."""
        generation = self.generation()
        cache = self._cache
        if cache and cache[0] == generation:
            return cache[1]
        self.check_layout()
        entries = self._read() if generation != (0, 0, 0) else ()
        self._cache = (generation, entries)
        return entries

    def write(self, entries: Sequence[Entry]) -> None:
        """Replaces the index atomically. To be called within `locked`."""
        document = {"models": [_document(entry) for entry in entries]}
        content = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        write_whole(self._file, content.encode())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps every other process and thread from changing the store.

        Raises InUse where another one does not let go within a minute.
        """
        with explained(self._root):
            self._root.mkdir(parents=True, exist_ok=True)
            with self._lock_file.open("ab") as file:
                self._wait_for(file.fileno())
                self.check_layout()
                if not self._layout.exists():
                    write_whole(self._layout, json.dumps({"version": LAYOUT_VERSION}).encode())
                yield

    def check_layout(self) -> None:
        """Raises SchemaTooNew where a newer program has made the store."""
        try:
            version = str(json.loads(self._layout.read_bytes())["version"])
            major = int(version.partition(".")[0])
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError) as error:
            raise Conflict(f"{self._layout} is not readable", hint="move it away") from error
        if major > int(LAYOUT_VERSION.partition(".")[0]):
            raise SchemaTooNew(
                f"the model store {self._root} has layout {version}, this program knows"
                f" {LAYOUT_VERSION}",
                hint="update the runner",
            )

    def _wait_for(self, handle: int) -> None:
        deadline = time.monotonic() + LOCK_TIMEOUT
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise InUse(
                        f"another process keeps the model store {self._root} locked",
                        hint="wait for it to end",
                    ) from error
                time.sleep(_LOCK_POLL)

    def _read(self) -> Entries:
        try:
            document = json.loads(self._file.read_bytes())
            return tuple(_entry(item) for item in document["models"])
        except FileNotFoundError:
            return ()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise Conflict(
                f"the list of models {self._file} is not readable",
                hint="move it away and pull your models again; their files are kept",
            ) from error


def _document(entry: Entry) -> dict[str, object]:
    return {
        "id": entry.id,
        "tags": list(entry.tags),
        "files": list(entry.files),
        "created": entry.created,
        "size": entry.size,
        "config": entry.config.to_json(),
    }


def _entry(item: dict[str, object]) -> Entry:
    stated = item.get("config")
    summary = stated if isinstance(stated, dict) else {}
    config = ModelConfig(
        format=ModelFormat(summary.get("format", ModelFormat.GGUF.value)),
        quantization=str(summary.get("quantization", "")),
        parameters=str(summary.get("parameters", "")),
        architecture=str(summary.get("architecture", "")),
        size=str(summary.get("size", "")),
        context_size=summary.get("context_size"),
    )
    return Entry(
        id=str(item["id"]),
        tags=tuple(_texts(item["tags"])),
        files=tuple(_texts(item["files"])),
        created=_number(item.get("created")),
        size=_number(item.get("size")),
        config=config,
    )


def _texts(value: object) -> list[str]:
    return [str(text) for text in value] if isinstance(value, list) else []


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0

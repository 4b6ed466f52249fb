"""The store's lock, which keeps every other process and thread from changing it, and its layout."""

from __future__ import annotations

import fcntl
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runner.errors import Conflict, InUse, SchemaTooNew
from runner.store.files import explained, write_whole

LAYOUT_VERSION = "1.0.0"
LOCK_TIMEOUT = 60.0
_LOCK_POLL = 0.02


class StoreLock:
    """One store's lock. A thread that holds it may take it again."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._file = root / "lock"
        self._layout = root / "layout.json"
        self._mine = threading.local()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Raises InUse where another one does not let go within a minute, SchemaTooNew."""
        if getattr(self._mine, "held", False):
            yield
            return
        with explained(self._root):
            self._root.mkdir(parents=True, exist_ok=True)
            with self._file.open("ab") as file:
                self._wait_for(file.fileno())
                self.check_layout()
                if not self._layout.exists():
                    write_whole(self._layout, json.dumps({"version": LAYOUT_VERSION}).encode())
                self._mine.held = True
                try:
                    yield
                finally:
                    self._mine.held = False

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

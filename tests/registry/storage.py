"""A storage host that a registry redirects to: it knows no accounts, and its addresses expire."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlsplit

from tests.registry.content import Content
from tests.registry.exchange import Exchange
from tests.registry.records import Ledger, Request
from tests.registry.throttle import Throttle


@dataclass
class Storage:
    """Each address serves `uses` requests and is refused with 403 after them; 0 is no limit.

    A fault serves one request.
    """

    uses: int = 0
    port: int = 0
    blobs: dict[str, bytes | Content] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    faults: list[Callable[[Exchange], bool]] = field(default_factory=list)
    served: Ledger = field(default_factory=Ledger)
    throttle: Throttle = field(default_factory=Throttle)
    lock: threading.Lock = field(default_factory=threading.Lock)
    addresses: list[str] = field(default_factory=list)
    used: dict[str, int] = field(default_factory=dict)

    def address_of(self, digest: str) -> str:
        """A new address, as if it were signed."""
        with self.lock:
            path = f"/stored/{len(self.addresses)}/{digest}"
            self.addresses.append(path)
        return f"http://localhost:{self.port}{path}"

    def admits(self, path: str) -> bool:
        """Counts one more use of an address."""
        with self.lock:
            self.used[path] = self.used.get(path, 0) + 1
            return path in self.addresses and not 0 < self.uses < self.used[path]


class StorageHandler(Exchange):
    """One connection to the storage host."""

    storage: Storage

    def do_GET(self) -> None:  # noqa: N802 - http.server's own
        storage, parts = self.storage, urlsplit(self.path)
        self.begin(storage.throttle)
        authorization = self.headers.get("Authorization", "")
        asked = self.headers.get("Range", "")
        with storage.lock:
            storage.requests.append(
                Request("GET", parts.path, parts.query, authorization, asked, b"")
            )
            fault = storage.faults.pop(0) if storage.faults else None
        with self.breaking_off():
            if fault and fault(self):
                return
            if authorization:
                self.answer(400, b"only one way of authentication is allowed")
            elif not storage.admits(parts.path):
                self.answer(403, b"the address has expired")
            else:
                digest = parts.path.rpartition("/")[2]
                self.send(storage.blobs[digest], partial(storage.served.note, digest))

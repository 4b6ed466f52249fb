"""What a pull, push or packaging tells while it runs, as Docker Model Runner's NDJSON lines."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

INTERVAL = 0.1
_MB = 1_000_000


class ProgressKind(StrEnum):
    PROGRESS = "progress"
    SUCCESS = "success"


class TransferMode(StrEnum):
    PULL = "pull"
    PUSH = "push"
    PACKAGE = "package"


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """One step. `total` is the bytes of the whole model, `size` and `current` those of the
    layer whose digest is `layer`; `done` is what all layers together have, where it is known."""

    kind: ProgressKind
    mode: TransferMode
    message: str
    total: int = 0
    layer: str = ""
    size: int = 0
    current: int = 0
    done: int | None = None

    def document(self) -> dict[str, object]:
        """The fields of a progress line, in their order; `done` is our own addition."""
        layer: dict[str, object] = {"id": self.layer} if self.layer else {}
        done = {} if self.done is None else {"done": self.done}
        return {
            "type": self.kind.value,
            "message": self.message,
            "total": self.total,
            **done,
            "layer": layer | {"size": self.size, "current": self.current},
            "mode": self.mode.value,
        }


Progress = Callable[[ProgressEvent], None]


def silent(event: ProgressEvent) -> None:
    """For callers that want no progress."""
    del event


def summed(progress: Progress) -> Progress:
    """Adds `done` to each layer's event; events of several threads are told one at a time."""
    lock, told, done = threading.Lock(), dict[str, int](), 0

    def tell(event: ProgressEvent) -> None:
        nonlocal done
        with lock:
            if event.layer:
                done += event.current - told.get(event.layer, 0)
                told[event.layer] = event.current
                event = replace(event, done=done)
            progress(event)

    return tell


class LayerProgress:
    """Reports one layer's bytes, ten times a second at most, the last byte always."""

    def __init__(
        self, progress: Progress, mode: TransferMode, *, total: int, layer: str, size: int
    ) -> None:
        self._progress = progress
        self._mode = mode
        self._total = total
        self._layer = layer
        self._size = size
        self._told_at = float("-inf")
        self._told = -1

    def __call__(self, current: int) -> None:
        now = time.monotonic()
        is_last = current == self._size and self._told != current
        if now - self._told_at < INTERVAL and not is_last:
            return
        self._told_at, self._told = now, current
        verb = {
            TransferMode.PULL: "Downloaded",
            TransferMode.PUSH: "Uploaded",
            TransferMode.PACKAGE: "Packaged",
        }[self._mode]
        self._progress(
            ProgressEvent(
                ProgressKind.PROGRESS,
                self._mode,
                f"{verb}: {current / _MB:.2f} MB",
                total=self._total,
                layer=self._layer,
                size=self._size,
                current=current,
            )
        )

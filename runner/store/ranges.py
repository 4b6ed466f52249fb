"""Which bytes of a blob are there: sorted ranges that neither touch nor overlap. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class Ranges:
    """Half-open ranges of byte offsets."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.total = 0

    @property
    def prefix(self) -> int:
        """How many bytes are there from the beginning without a gap."""
        return self._ends[0] if self._starts and self._starts[0] == 0 else 0

    def add(self, start: int, end: int) -> None:
        """Enters the bytes from `start` to `end` (not included), joining what they touch."""
        if start >= end:
            return
        first, last = bisect_left(self._ends, start), bisect_right(self._starts, end)
        if first < last:
            start = min(start, self._starts[first])
            end = max(end, self._ends[last - 1])
            self.total -= sum(
                e - s for s, e in zip(self._starts[first:last], self._ends[first:last], strict=True)
            )
        self._starts[first:last], self._ends[first:last] = [start], [end]
        self.total += end - start

    def gaps(self, size: int) -> Iterator[tuple[int, int]]:
        """What is missing of `size` bytes, in order."""
        position = 0
        for start, end in zip(self._starts, self._ends, strict=True):
            if position < start:
                yield position, min(start, size)
            position = end
        if position < size:
            yield position, size


def parts(missing: Iterator[tuple[int, int]], part_size: int) -> list[tuple[int, int]]:
    """Ranges cut at multiples of `part_size`, so that every part is one request."""
    cut: list[tuple[int, int]] = []
    for gap_start, gap_end in missing:
        start = gap_start
        while start < gap_end:
            end = min(gap_end, (start // part_size + 1) * part_size)
            cut.append((start, end))
            start = end
    return cut

"""Ranges of bytes: joined whatever the order they come in, gaps and parts exact."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runner.store.ranges import Ranges, parts

SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=30)


@given(SPANS)
def test_ranges_agree_with_a_set_of_bytes(spans: list[tuple[int, int]]) -> None:
    ranges, seen = Ranges(), set[int]()
    for start, end in spans:
        ranges.add(start, end)
        seen.update(range(start, end))
        assert ranges.total == len(seen)
        assert ranges.prefix == next(n for n in range(61) if n not in seen)
        missing = [n for start, end in ranges.gaps(60) for n in range(start, end)]
        assert missing == [n for n in range(60) if n not in seen]


def test_gaps_end_with_the_blob() -> None:
    ranges = Ranges()
    ranges.add(3, 5)
    ranges.add(8, 20)
    assert list(ranges.gaps(10)) == [(0, 3), (5, 8)]
    assert list(ranges.gaps(25)) == [(0, 3), (5, 8), (20, 25)]


@given(SPANS, st.integers(1, 20))
def test_parts_cover_the_gaps_and_none_crosses_a_boundary(
    spans: list[tuple[int, int]], size: int
) -> None:
    ranges = Ranges()
    for start, end in spans:
        ranges.add(start, end)
    cut = parts(ranges.gaps(60), size)
    assert [n for part in cut for n in range(*part)] == [
        n for gap in ranges.gaps(60) for n in range(*gap)
    ]
    assert all(start // size == (end - 1) // size for start, end in cut)

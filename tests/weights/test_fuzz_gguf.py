"""GGUF headers made by nobody's converter: absurd counts, cut, changed; read or refused, within
bounds."""

from __future__ import annotations

import math
import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import BadModelFile, RunnerError
from runner.weights.gguf import kv_bytes, parse_gguf, read_gguf
from runner.weights.gguf_header import Array, NeedsMore
from tests.weights.gguf_bytes import (
    ARRAY,
    BOOL,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    LLAMA,
    STRING,
    U8,
    U16,
    U32,
    U64,
    Item,
    Typed,
    gguf,
    tensor,
    text,
)

MIB = 1024 * 1024
ABSURD = st.sampled_from([0, 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**48, 2**63 - 1, 2**64 - 1])
SCALARS: dict[int, st.SearchStrategy[Item]] = {
    U8: st.integers(0, 2**8 - 1),
    I8: st.integers(-(2**7), 2**7 - 1),
    U16: st.integers(0, 2**16 - 1),
    I16: st.integers(-(2**15), 2**15 - 1),
    U32: st.integers(0, 2**32 - 1),
    I32: st.integers(-(2**31), 2**31 - 1),
    F32: st.floats(width=32),
    BOOL: st.booleans(),
    STRING: st.text(max_size=20).map(lambda value: value.encode("utf-8", "replace").decode()),
    U64: st.integers(0, 2**64 - 1),
    I64: st.integers(-(2**63), 2**63 - 1),
    F64: st.floats(),
}


@st.composite
def typed(draw: st.DrawFn) -> Typed:
    kind = draw(st.sampled_from(sorted(SCALARS)))
    if draw(st.booleans()):
        return (kind, draw(SCALARS[kind]))
    return (ARRAY, kind, draw(st.lists(SCALARS[kind], max_size=20)))


METADATA = st.dictionaries(
    st.sampled_from(sorted(LLAMA)) | st.text(st.characters(codec="ascii"), max_size=12),
    typed(),
    max_size=6,
)


def only_our_errors(content: bytes, file_size: int) -> None:
    try:
        info = parse_gguf(content, file_size)
        assert info.parameters >= 0
        assert info.quantization
        assert (kv_bytes(info, 4096) or 0) >= 0
    except (RunnerError, NeedsMore):
        return


def same(ours: object, stated: Item) -> bool:
    if isinstance(stated, float) and isinstance(ours, float) and math.isnan(stated):
        return math.isnan(ours)
    return ours == stated and isinstance(ours, type(stated))


@settings(deadline=None, max_examples=300)
@given(METADATA)
def test_what_is_said_is_read(metadata: dict[str, Typed]) -> None:
    metadata.pop("general.alignment", None)
    content = gguf(metadata)
    info = parse_gguf(content, len(content))
    assert list(info.metadata) == list(metadata)
    for key, stated in metadata.items():
        found = info.metadata[key]
        if len(stated) == 2:
            assert same(found, stated[1])
            continue
        assert isinstance(found, Array)
        assert found.length == len(stated[2])
        if found.values is not None:
            assert all(same(a, b) for a, b in zip(found.values, stated[2], strict=True))
    only_our_errors(content, len(content))


@settings(deadline=None, max_examples=400)
@given(METADATA, st.data())
def test_no_absurd_number_breaks_the_reader(
    metadata: dict[str, Typed], data: st.DataObject
) -> None:
    """Any eight or four bytes of a header become a count, a length or an offset of one's choice;
    the file may claim to be of any size."""
    tensors = [tensor("blk.0.w", (32, 2), data.draw(st.integers(0, 40)), 0), tensor("t", (), 0, 0)]
    content = bytearray(gguf(metadata, tensors, bytes(256)))
    for _ in range(data.draw(st.integers(1, 4))):
        width = data.draw(st.sampled_from([4, 8]))
        place = data.draw(st.integers(4, len(content) - width))
        number = data.draw(ABSURD) & (2 ** (8 * width) - 1)
        content[place : place + width] = number.to_bytes(width, "little")
    only_our_errors(bytes(content), len(content))
    only_our_errors(bytes(content), data.draw(st.sampled_from([2**20, 2**40, 2**60])))


@settings(deadline=None)
@given(METADATA, st.data())
def test_no_cut_breaks_the_reader(metadata: dict[str, Typed], data: st.DataObject) -> None:
    content = gguf(metadata)
    cut = data.draw(st.integers(0, len(content) - 1))
    with pytest.raises((BadModelFile, NeedsMore)):
        parse_gguf(content[:cut], cut)


@settings(deadline=None)
@given(ABSURD, ABSURD, st.integers(0, 2**32 - 1))
def test_absurd_counts_cost_nothing(tensors: int, entries: int, version: int) -> None:
    """Refused before anything is set aside for what they promise."""
    content = b"GGUF" + struct.pack("<IQQ", version, tensors, entries) + bytes(64)
    tracemalloc.start()
    try:
        only_our_errors(content, len(content))
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("tensors", struct.pack("<QQ", 1_000_000, 0)),
        ("texts", struct.pack("<QQ", 0, 1) + text("k") + struct.pack("<IIQ", ARRAY, STRING, 2**28)),
        ("numbers", struct.pack("<QQ", 0, 1) + text("k") + struct.pack("<IIQ", ARRAY, U64, 2**28)),
        ("entries", struct.pack("<QQ", 0, 65_536)),
    ],
)
def test_a_hole_of_a_terabyte_is_read_within_bounds(
    name: str, head: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sparse file costs its maker nothing; the reader looks at its first bytes alone."""
    monkeypatch.setattr("runner.weights.gguf.FIRST_READ", MIB)
    monkeypatch.setattr("runner.weights.gguf.MAX_HEADER", 4 * MIB)
    path = tmp_path / "m.gguf"
    with path.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<I", 3) + head)
        file.truncate(2**40)
    tracemalloc.start()
    try:
        with pytest.raises(BadModelFile, match=r"m\.gguf"):
            read_gguf(path)
        assert tracemalloc.get_traced_memory()[1] < 64 * MIB
    finally:
        tracemalloc.stop()
    assert name


@pytest.mark.parametrize("magic", [b"lmgg", b"fmgg", b"tjgg", b"algg"])
@given(tail=st.binary(max_size=64))
def test_legacy_files_are_told_apart_whatever_follows(magic: bytes, tail: bytes) -> None:
    with pytest.raises(BadModelFile, match="before GGUF") as caught:
        parse_gguf(magic + tail, 4 + len(tail))
    assert "convert" in caught.value.hint

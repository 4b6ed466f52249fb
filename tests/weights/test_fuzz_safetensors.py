"""Safetensors headers made by nobody's library, with the library itself as the judge."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import BadModelFile
from runner.weights.safetensors import (
    DTYPE_BITS,
    SafetensorsInfo,
    parse_safetensors,
    read_safetensors,
)

MIB = 1024 * 1024
ABSURD = st.sampled_from([-1, 0, 1, 2**31, 2**32, 2**53, 2**63, 2**64, 2**70])
ODD = st.one_of(st.none(), st.booleans(), ABSURD, st.floats(), st.text(max_size=4))
DTYPES = [name for name, bits in DTYPE_BITS.items() if bits >= 8]


def written(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A whole file."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    return size.to_bytes(8, "little") + text + data


@st.composite
def tensors(draw: st.DrawFn) -> tuple[dict[str, Any], bytes]:
    """A right header and its data."""
    header: dict[str, Any] = {}
    position = 0
    names = draw(st.lists(st.text(max_size=6), unique=True, max_size=4))
    for name in names:
        dtype = draw(st.sampled_from(DTYPES))
        shape = draw(st.lists(st.integers(0, 3), max_size=3))
        size = DTYPE_BITS[dtype] // 8
        for side in shape:
            size *= side
        offsets = [position, position + size]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        position += size
    if draw(st.booleans()):
        header["__metadata__"] = draw(st.dictionaries(st.text(max_size=5), st.text(max_size=5)))
    return header, bytes(position)


def ours(content: bytes) -> SafetensorsInfo | None:
    try:
        return parse_safetensors(content, len(content))
    except BadModelFile as error:
        assert error.message
        assert len(error.message) < 1000
        return None


def theirs(content: bytes) -> Mapping[str, Mapping[str, Any]] | None:
    try:
        return dict(safetensors.deserialize(content))  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError:
        return None


def agree(content: bytes) -> None:
    """What we take, the library takes, and reads the same tensors out of it."""
    mine = ours(content)
    if mine is None:
        return
    judged = theirs(content)
    assert judged is not None
    assert {t.name: (t.dtype, list(t.shape), t.size) for t in mine.tensors} == {
        name: (tensor["dtype"], tensor["shape"], len(tensor["data"]))
        for name, tensor in judged.items()
    }


@settings(deadline=None, max_examples=200)
@given(tensors())
def test_what_is_right_is_read(made: tuple[dict[str, Any], bytes]) -> None:
    header, data = made
    content = written(header, data)
    info = ours(content)
    assert info is not None
    assert {t.name for t in info.tensors} == set(header) - {"__metadata__"}
    assert sum(t.size for t in info.tensors) == len(data)
    agree(content)


@settings(deadline=None, max_examples=400)
@given(tensors(), st.data())
def test_no_wrong_value_breaks_the_reader(
    made: tuple[dict[str, Any], bytes], data: st.DataObject
) -> None:
    header, content = made
    named = [name for name in header if name != "__metadata__"]
    if data.draw(st.booleans()) and named:
        tensor = header[data.draw(st.sampled_from(named))]
        field: str = data.draw(st.sampled_from(["dtype", "shape", "data_offsets"]))
        values: st.SearchStrategy[Any] = st.lists(ABSURD, max_size=3)
        tensor[field] = data.draw(values | ODD | st.sampled_from(DTYPES))
    else:
        header[data.draw(st.text(max_size=3))] = data.draw(ODD)
    agree(written(header, content))


@settings(deadline=None, max_examples=400)
@given(tensors(), st.data())
def test_no_damage_breaks_the_reader(
    made: tuple[dict[str, Any], bytes], data: st.DataObject
) -> None:
    content = bytearray(written(*made))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    agree(bytes(content))
    agree(bytes(content[: data.draw(st.integers(0, len(content)))]))


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_no_bytes_break_the_reader(tail: bytes) -> None:
    for content in (tail, written(tail), written(b"{" + tail), written(b'{"a":' + tail)):
        agree(content)


@pytest.mark.parametrize(
    "bomb",
    [
        b'{"a":' * 1000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"a":{"dtype":"F32","shape":[' + b"[" * 100_000 + b"]" * 100_000 + b"]}}",
        b'{"a":{"dtype":"F32","shape":[' + b"9," * 50_000 + b'9],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[' + b"9" * 10_000 + b'],"data_offsets":[0,4]}}',
        b'{"' + b"\\ud800" * 1000 + b'":1}',
    ],
    ids=["cut", "deep", "deep shape", "dimensions", "digits", "surrogates"],
)
def test_bombs_of_json(bomb: bytes) -> None:
    with pytest.raises(BadModelFile):
        parse_safetensors(written(bomb), 8 + len(bomb))


@pytest.mark.parametrize("length", [2**62, 2**64 - 1, 100 * MIB + 1, 50 * MIB])
def test_absurd_lengths_cost_nothing(length: int, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(written(b"{}", length=length))
    tracemalloc.start()
    try:
        with pytest.raises(BadModelFile, match=r"m\.safetensors"):
            read_safetensors(path)
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()

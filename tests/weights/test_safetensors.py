"""Reading safetensors headers, whole ones and broken ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from runner.errors import BadInput, BadModelFile
from runner.weights.safetensors import (
    MAX_DIMENSIONS,
    SafeTensor,
    SafetensorsInfo,
    parse_safetensors,
    read_safetensors,
)
from tests.artifacts import golden
from tests.weights.safetensors_bytes import framed, safetensors


def test_golden() -> None:
    assert parse_safetensors(golden.SAFETENSORS, 200) == SafetensorsInfo(
        (SafeTensor("a", "F16", (2, 2), 8), SafeTensor("b", "F16", (4,), 8)),
        {"architecture": "LlamaForCausalLM", "format": "pt"},
        200,
    )


def test_what_the_formats_own_library_writes(tmp_path: Path) -> None:
    tensors: dict[str, np.ndarray[Any, Any]] = {
        "big": np.zeros((3, 5), np.float32),
        "none": np.zeros((0, 7), np.float16),
        "one": np.array(1, np.int64),
        "bits": np.zeros((2,), np.bool_),
    }
    path = tmp_path / "m.safetensors"
    save_file(tensors, path, metadata={"ä": "ö"})
    info = read_safetensors(path)
    assert {tensor.name: (tensor.shape, tensor.size) for tensor in info.tensors} == {
        name: (array.shape, array.nbytes) for name, array in tensors.items()
    }
    assert info.parameters == 18
    assert info.metadata == {"ä": "ö"}
    assert info.file_size == path.stat().st_size


def one(**change: object) -> bytes:
    """A file of one tensor of four bytes, with this of it changed."""
    entry = {"dtype": "F16", "shape": [2], "data_offsets": [0, 4], **change}
    return framed({"a": entry}) + bytes(4)


def two(first: list[int], second: list[int]) -> bytes:
    entries = [
        {"dtype": "U8", "shape": [b - a], "data_offsets": [a, b]} for a, b in (first, second)
    ]
    return framed({"a": entries[0], "b": entries[1]}) + bytes(8)


BROKEN = {
    "empty": (b"", "is empty"),
    "web page": (b"<!DOCTYPE html><html></html>", "is a web page"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer"),
    "ggml": (b"lmgg" + bytes(60), "format before GGUF"),
    "gguf": (golden.GGUF, "is not a safetensors file"),
    "short": (b"\x10\0\0", "is not a safetensors file"),
    "zip": (b"PK\x03\x04" + bytes(60), "is not a safetensors file"),
    "header alone": (framed(b"{}")[:-1], "cut short"),
    "long header": (b"\0\0\0\x08\0\0\0\0{", "claims a header of 134217728 bytes"),
    "absurd header": (b"\xff" * 8 + b"{", "claims a header of 18446744073709551615 bytes"),
    "no JSON": (framed(b"{nothing}"), "unreadable header"),
    "no text": (framed(b'{"\xff":1}'), "unreadable header"),
    "deep": (framed(b'{"a":' * 100_000), "unreadable header"),
    "number": (framed({"a": 1}), "unreadable header"),
    "type missing": (framed({"a": {"shape": [1], "data_offsets": [0, 1]}}), "unreadable header"),
    "metadata": (framed({"__metadata__": {"a": 1}}), "unreadable header"),
    "dtype": (one(dtype="\x1b[31m"), r"unknown type '\\x1b\[31m'"),
    "negative side": (one(shape=[-2, -1]), "unusable shape"),
    "fraction": (one(shape=[2.5]), "unreadable header"),
    "many sides": (one(shape=[1] * (MAX_DIMENSIONS + 1)), "unusable shape"),
    "absurd side": (one(shape=[2**63]), "unusable shape"),
    "absurd product": (one(shape=[2**40, 2**40]), "weights"),
    "other size": (one(shape=[3]), "4 bytes, its shape needs 6"),
    "one offset": (one(data_offsets=[0]), "unreadable header"),
    "backwards": (one(data_offsets=[4, 0]), "-4 bytes"),
    "negative": (one(data_offsets=[-4, 0]), "expected from 0"),
    "gap at the start": (one(data_offsets=[1, 5]), "expected from 0"),
    "overlap": (two([0, 5], [4, 8]), "expected from 5"),
    "gap": (two([0, 3], [4, 8]), "expected from 3"),
    "cut": (one()[:-1], "cut short: its tensors need 4 bytes, it holds 3"),
    "more": (one() + b"x", "1 bytes after its last tensor"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files(name: str, tmp_path: Path) -> None:
    content, reason = BROKEN[name]
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    with pytest.raises(BadModelFile, match=reason) as caught:
        read_safetensors(path)
    assert caught.value.message.startswith("m.safetensors ")
    with pytest.raises(BadModelFile, match=reason):
        parse_safetensors(content, len(content))


def test_every_cut_is_seen() -> None:
    content = safetensors({"a": ("F16", [3]), "b": ("F32", [2, 2])}, {"k": "v"})
    parse_safetensors(content, len(content))
    for size in range(len(content)):
        with pytest.raises(BadModelFile):
            parse_safetensors(content[:size], size)


def test_a_tiny_header_that_begins_like_a_web_page() -> None:
    header = json.dumps({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode()
    content = framed(header.ljust(ord("<"))) + b"x"
    assert content[:1] == b"<"
    assert parse_safetensors(content, len(content)).parameters == 1


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is a folder"):
        read_safetensors(tmp_path)
    with pytest.raises(BadInput, match="can't read"):
        read_safetensors(tmp_path / "nothing")

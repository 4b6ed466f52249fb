"""Reading GGUF headers: what they say, what they cost, and that no bytes break the reader."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import pytest
from gguf import GGUFReader
from gguf.constants import GGML_QUANT_SIZES, LlamaFileType
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import BadInput, BadModelFile
from runner.weights.ggml import FILE_TYPES, TENSOR_TYPES
from runner.weights.gguf import kv_bytes, parse_gguf, read_gguf
from runner.weights.gguf_header import Array, NeedsMore
from tests.weights.gguf_bytes import (
    ARRAY,
    BOOL,
    F32,
    F64,
    I16,
    I32,
    LLAMA,
    STRING,
    U8,
    U32,
    U64,
    Typed,
    gguf,
    tensor,
    text,
)

DEMO = Path(__file__).parents[2] / "runner" / "demo"


def parsed(content: bytes) -> object:
    return parse_gguf(content, len(content))


def written(folder: Path, content: bytes) -> Path:
    path = folder / "m.gguf"
    path.write_bytes(content)
    return path


def test_says_what_the_header_says(tmp_path: Path) -> None:
    info = read_gguf(written(tmp_path, gguf()))
    assert info.version == 3
    assert info.architecture == "llama"
    assert info.quantization == "F16"
    assert info.context_length == 256
    assert info.block_count == 2
    assert info.parameters == 8
    assert info.data_size == 16
    assert info.tensors[0].shape == (4, 2)


def test_reads_every_type_of_value() -> None:
    info = parse_gguf(
        content := gguf(
            {
                "a": (U8, 255),
                "b": (I16, -2),
                "c": (U64, 2**63),
                "d": (F32, 0.5),
                "e": (F64, -1.25),
                "f": (BOOL, True),
                "g": (STRING, "häll◌"),
                "h": (ARRAY, I32, [1, -1]),
                "i": (ARRAY, STRING, ["x", ""]),
            }
        ),
        len(content),
    )
    assert dict(info.metadata) == {
        "a": 255,
        "b": -2,
        "c": 2**63,
        "d": 0.5,
        "e": -1.25,
        "f": True,
        "g": "häll◌",
        "h": Array(2, (1, -1)),
        "i": Array(2, ("x", "")),
    }


def test_agrees_with_the_gguf_package() -> None:
    for path in sorted(DEMO.glob("*.gguf")):
        ours, theirs = read_gguf(path), GGUFReader(path)
        assert len(ours.tensors) == len(theirs.tensors)
        assert ours.data_start == theirs.data_offset
        for mine, other in zip(ours.tensors, theirs.tensors, strict=True):
            assert (mine.name, mine.shape) == (other.name, tuple(other.shape.tolist()))
            assert ours.data_start + mine.offset == other.data_offset
        known = {key: theirs.fields[key].contents() for key in ours.metadata}
        scalars = {k: v for k, v in ours.metadata.items() if not isinstance(v, Array)}
        assert scalars == {key: known[key] for key in scalars}


def test_tables_are_those_of_the_gguf_package() -> None:
    for kind, (block, size) in GGML_QUANT_SIZES.items():
        assert (TENSOR_TYPES[kind].block, TENSOR_TYPES[kind].size) == (block, size), kind.name
    for mixture in LlamaFileType:
        if mixture < 1024:
            name = mixture.name.removeprefix("ALL_").removeprefix("MOSTLY_")
            assert name == FILE_TYPES[mixture]


def test_big_vocabularies_are_skipped_without_taking_memory() -> None:
    tokens, merges = [f"token{n}" for n in range(151_936)], [f"a{n} b" for n in range(151_387)]
    vocabulary: dict[str, Typed] = {
        "tokenizer.ggml.tokens": (ARRAY, STRING, tokens),
        "tokenizer.ggml.token_type": (ARRAY, I32, [1] * len(tokens)),
        "tokenizer.ggml.merges": (ARRAY, STRING, merges),
    }
    content = gguf({**LLAMA, **vocabulary})
    tracemalloc.start()
    try:
        info = parse_gguf(content, len(content))
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024
    finally:
        tracemalloc.stop()
    assert info.metadata["tokenizer.ggml.tokens"] == Array(151_936, None)
    assert info.metadata["tokenizer.ggml.merges"] == Array(151_387, None)


def test_a_header_longer_than_the_first_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.weights.gguf.FIRST_READ", 32)
    assert read_gguf(written(tmp_path, gguf())).parameters == 8


@pytest.mark.parametrize(
    ("file_type", "name"), [(0, "F32"), (7, "Q8_0"), (15, "Q4_K_M"), (32, "BF16"), (1024, "F16")]
)
def test_quantization(file_type: int, name: str) -> None:
    content = gguf({**LLAMA, "general.file_type": (U32, file_type)})
    assert parse_gguf(content, len(content)).quantization == name


def test_quantization_is_guessed_from_the_blocks() -> None:
    metadata = {"general.architecture": LLAMA["general.architecture"]}
    tensors = [
        tensor("output.weight", (1,), 1, 0),
        tensor("blk.0.norm", (1,), 0, 0),
        tensor("blk.1.norm", (1,), 0, 0),
        tensor("blk.0.w", (32,), 8, 0),
    ]
    content = gguf(metadata, tensors, bytes(64))
    assert parse_gguf(content, len(content)).quantization == "Q8_0"


def test_kv_bytes() -> None:
    content = gguf()
    # two layers, two heads of 16 each for keys and for values, two bytes a number
    assert kv_bytes(parse_gguf(content, len(content)), 1024) == 2 * 2 * (16 + 16) * 2 * 1024


def test_kv_bytes_with_heads_per_layer_and_own_lengths() -> None:
    content = gguf(
        {
            **LLAMA,
            "llama.attention.head_count_kv": (ARRAY, I32, [2, 0]),
            "llama.attention.key_length": (U32, 192),
            "llama.attention.value_length": (U32, 128),
        }
    )
    assert kv_bytes(parse_gguf(content, len(content)), 10) == 2 * (192 + 128) * 2 * 10


def test_kv_bytes_of_the_demo_model() -> None:
    info = read_gguf(DEMO / "demo-f16.gguf")
    assert kv_bytes(info, 1) == 3 * 2 * (64 + 64) * 2


@pytest.mark.parametrize(
    "missing",
    ["llama.block_count", "llama.attention.head_count", "llama.embedding_length"],
)
def test_a_cache_of_unknown_size(missing: str) -> None:
    content = gguf({key: value for key, value in LLAMA.items() if key != missing})
    assert kv_bytes(parse_gguf(content, len(content)), 1) is None


def test_a_recurrent_model_keeps_no_keys_and_values() -> None:
    metadata: dict[str, Typed] = {
        "general.architecture": (STRING, "mamba"),
        "mamba.block_count": (U32, 2),
        "mamba.ssm.state_size": (U32, 16),
    }
    content = gguf(metadata)
    assert kv_bytes(parse_gguf(content, len(content)), 1024) == 0


HEAD = b"GGUF" + struct.pack("<I", 3)
BROKEN = {
    "empty": (b"", "is empty"),
    "legacy": (b"tjgg\x03\0\0\0" + bytes(64), "GGJT.*before GGUF"),
    "web page": (b"<!doctype html><html>", "web page"),
    "lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS"),
    "other": (b"PK\x03\x04" + bytes(64), "not a GGUF file"),
    "version 1": (b"GGUF\x01\0\0\0" + bytes(64), "version 1"),
    "big-endian": (b"GGUF\0\0\0\x03" + bytes(64), "big-endian"),
    "newer": (b"GGUF\x09\0\0\0" + bytes(64), "version 9"),
    "only magic": (b"GGUF", "cut short"),
    "absurd tensors": (HEAD + struct.pack("<QQ", 2**60, 0), "claims .* tensors"),
    "absurd entries": (HEAD + struct.pack("<QQ", 0, 2**60), "claims .* metadata entries"),
    "many tensors": (HEAD + struct.pack("<QQ", 1000, 0) + bytes(99), "more than its .* bytes"),
    "long text": (HEAD + struct.pack("<QQQ", 0, 1, 2**62) + bytes(99), "text of"),
    "unknown type": (
        HEAD + struct.pack("<QQ", 0, 1) + text("k") + struct.pack("<I", 77) + bytes(99),
        "unknown type 77",
    ),
    "nested array": (
        HEAD + struct.pack("<QQ", 0, 1) + text("k") + struct.pack("<IIQ", 9, 9, 1) + bytes(99),
        "array of the unknown type 9",
    ),
    "absurd array": (
        HEAD + struct.pack("<QQ", 0, 1) + text("k") + struct.pack("<IIQ", 9, 4, 2**61) + bytes(99),
        "more items than the file",
    ),
    "absurd text in array": (
        HEAD
        + struct.pack("<QQ", 0, 1)
        + text("k")
        + struct.pack("<IIQQ", 9, 8, 17, 2**63)
        + bytes(200),
        "ends after the file",
    ),
    "dimensions": (gguf(tensors=[tensor("t", (1,) * 5, 0, 0)]), "5 dimensions"),
    "alignment": (gguf({**LLAMA, "general.alignment": (U32, 24)}), "power of two"),
    "rows": (gguf(tensors=[tensor("t", (33,), 8, 0)]), "no multiple of Q8_0"),
    "data cut short": (gguf()[:-1], "cut short: its tensors end"),
    "far offset": (gguf(tensors=[tensor("t", (4, 2), 1, 2**50)]), "cut short: its tensors end"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused_with_a_reason(name: str, tmp_path: Path) -> None:
    content, reason = BROKEN[name]
    with pytest.raises(BadModelFile, match=reason) as caught:
        read_gguf(written(tmp_path, content))
    assert caught.value.message.startswith("m.gguf ")


def test_a_key_that_is_said_twice() -> None:
    one = text("k") + struct.pack("<IB", U8, 1)
    content = HEAD + struct.pack("<QQ", 0, 2) + one + one
    with pytest.raises(BadModelFile, match="twice"):
        parsed(content)


def test_legacy_files_come_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(BadModelFile) as caught:
        read_gguf(written(tmp_path, BROKEN["legacy"][0]))
    assert "convert" in caught.value.hint


@pytest.mark.parametrize("missing", ["nothing.gguf", "."])
def test_what_is_no_file(missing: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        read_gguf(tmp_path / missing)


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    whole = gguf({**LLAMA, "tokenizer.ggml.tokens": (ARRAY, STRING, ["t"] * 40)})
    for length in range(len(whole)):
        with pytest.raises(BadModelFile):
            read_gguf(written(tmp_path, whole[:length]))


def only_our_errors(content: bytes) -> None:
    try:
        info = parse_gguf(content, len(content))
    except (BadModelFile, NeedsMore):
        return
    assert info.parameters >= 0
    assert (kv_bytes(info, 4096) or 0) >= 0


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader(tail: bytes) -> None:
    only_our_errors(tail)
    only_our_errors(HEAD + tail)
    only_our_errors(HEAD + struct.pack("<QQ", 1, 1) + tail)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_no_damage_breaks_the_reader(data: st.DataObject) -> None:
    content = bytearray(
        gguf(
            {
                **LLAMA,
                "llama.attention.head_count_kv": (ARRAY, I32, [2, 2]),
                "tokens": (ARRAY, STRING, ["x"] * 20),
            }
        )
    )
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(4, len(content) - 1))
        content[place] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
    only_our_errors(bytes(content))

"""What we write is what Docker Model Runner writes, byte for byte."""

from __future__ import annotations

import hashlib

import pytest

from runner.errors import BadInput
from runner.models.artifact_writer import (
    PackedFile,
    bytes_text,
    count_text,
    metadata_texts,
    write_gguf_artifact,
)
from runner.models.gguf import parse_gguf
from runner.models.media import LayerKind
from tests.models import golden
from tests.models.gguf_bytes import ARRAY, BOOL, F32, F64, I16, LLAMA, STRING, U32, U64, gguf

INFO = parse_gguf(golden.GGUF, len(golden.GGUF))


def packed(kind: LayerKind, name: str, content: bytes) -> PackedFile:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return PackedFile(kind, name, digest, len(content))


FILES = [
    packed(LayerKind.GGUF, "golden.gguf", golden.GGUF),
    packed(LayerKind.CHAT_TEMPLATE, "chat.jinja", golden.CHAT_TEMPLATE),
    packed(LayerKind.LICENSE, "LICENSE", golden.LICENSE),
]


def test_golden() -> None:
    written = write_gguf_artifact(INFO, FILES, context_size=128, created=golden.CREATED)
    assert written.config == golden.CONFIG
    assert written.manifest == golden.MANIFEST


def test_what_is_empty_is_left_out() -> None:
    written = write_gguf_artifact(INFO, FILES[:1])
    assert b"context_size" not in written.config
    assert b'"created":"1970-01-01T00:00:00Z"' in written.config
    assert b"artifactType" not in written.manifest


@pytest.mark.parametrize(
    ("file_type", "text"),
    [(15, "IQ2_XXS/Q4_K_M"), (18, "IQ1_S/Q6_K"), (7, "Q8_0"), (32, "BF16"), (28, "IQ2_S")],
)
def test_quantization_texts(file_type: int, text: str) -> None:
    content = gguf({**LLAMA, "general.file_type": (U32, file_type)})
    written = write_gguf_artifact(parse_gguf(content, len(content)), FILES[:1])
    assert f'"quantization":"{text}"'.encode() in written.config


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (183, "183"),
        (1000, "1K"),
        (1_312_512, "1.31M"),
        (16_780_000, "16.78M"),
        (361_821_120, "361.82M"),
        (7_000_000_000, "7B"),
        (1_000_000_000_000, "1T"),
    ],
)
def test_count_texts(count: int, text: str) -> None:
    assert count_text(count) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (864, "864B"),
        (1000, "1KB"),
        (1024, "1KiB"),
        (268_800_000, "256.35MiB"),
        (10**9, "1GB"),
        (2**30, "1GiB"),
    ],
)
def test_bytes_texts(size: int, text: str) -> None:
    assert bytes_text(size) == text


def test_metadata_texts() -> None:
    content = gguf(
        {
            "f": (F32, 0.123456789),
            "a": (U64, 1311768467463790320),
            "b": (I16, -4661),
            "c": (BOOL, False),
            "d": (F64, float("inf")),
            "e": (F64, float("nan")),
            "g": (ARRAY, I16, [1, 2, 3, 4]),
            "h": (ARRAY, STRING, ["x"] * 11),
            "i": (ARRAY, BOOL, [True]),
            "j": (F64, float("-inf")),
        }
    )
    assert list(metadata_texts(parse_gguf(content, len(content)).metadata).items()) == [
        ("a", "1311768467463790320"),
        ("b", "-4661"),
        ("c", "false"),
        ("d", "+Inf"),
        ("e", "NaN"),
        ("f", "0.123457"),
        ("g", "1, 2, 3, 4"),
        ("i", "true"),
        ("j", "-Inf"),
    ]


@pytest.mark.parametrize("context_size", [0, -1, 2**31])
def test_context_sizes_out_of_range(context_size: int) -> None:
    with pytest.raises(BadInput, match="context size"):
        write_gguf_artifact(INFO, FILES[:1], context_size=context_size)


def test_two_files_of_one_name() -> None:
    template = packed(LayerKind.CHAT_TEMPLATE, "golden.gguf", b"x")
    with pytest.raises(BadInput, match="two files"):
        write_gguf_artifact(INFO, [FILES[0], template])


def test_a_time_out_of_range() -> None:
    with pytest.raises(BadInput, match="not a time"):
        write_gguf_artifact(INFO, FILES[:1], created=2**62)

"""GGUF files made byte by byte, whole and broken, by rules of the format's own description."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
LAYOUTS = {
    U8: "<B",
    I8: "<b",
    U16: "<H",
    I16: "<h",
    U32: "<I",
    I32: "<i",
    F32: "<f",
    BOOL: "<?",
    U64: "<Q",
    I64: "<q",
    F64: "<d",
}

Item = int | float | bool | str
Typed = tuple[int, Item] | tuple[int, int, Sequence[Item]]

LLAMA: Mapping[str, Typed] = {
    "general.architecture": (STRING, "llama"),
    "general.file_type": (U32, 1),
    "llama.context_length": (U32, 256),
    "llama.block_count": (U32, 2),
    "llama.embedding_length": (U32, 64),
    "llama.attention.head_count": (U32, 4),
    "llama.attention.head_count_kv": (U32, 2),
}


def text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def item(kind: int, value: Item) -> bytes:
    return text(str(value)) if kind == STRING else struct.pack(LAYOUTS[kind], value)


def entry(key: str, typed: Typed) -> bytes:
    head = text(key) + struct.pack("<I", typed[0])
    if len(typed) == 3:
        _, kind, values = typed
        body = b"".join(item(kind, value) for value in values)
        return head + struct.pack("<IQ", kind, len(values)) + body
    return head + item(typed[0], typed[1])


def tensor(name: str, shape: Sequence[int], kind: int, offset: int) -> bytes:
    dimensions = b"".join(struct.pack("<Q", size) for size in shape)
    return (
        text(name) + struct.pack("<I", len(shape)) + dimensions + struct.pack("<IQ", kind, offset)
    )


def gguf(
    metadata: Mapping[str, Typed] = LLAMA,
    tensors: Sequence[bytes] = (tensor("blk.0.attn_q.weight", (4, 2), 1, 0),),
    data: bytes = bytes(range(16)),
    *,
    version: int = 3,
    alignment: int = 32,
) -> bytes:
    """A whole file; by default a llama of eight F16 weights."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    head += b"".join(entry(key, typed) for key, typed in metadata.items())
    head += b"".join(tensors)
    return head + bytes(-len(head) % alignment) + data

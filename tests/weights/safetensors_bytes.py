"""Safetensors files made byte by byte, by rules of the format's own description."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from math import prod

BITS = {"U8": 8, "F8_E4M3": 8, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32}


def safetensors(
    tensors: Mapping[str, tuple[str, list[int]]], metadata: Mapping[str, str] | None = None
) -> bytes:
    """A whole file of zeros."""
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    position = 0
    for name, (dtype, shape) in tensors.items():
        end = position + prod(shape) * BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, end]}
        position = end
    return framed(header) + bytes(position)


def framed(header: object) -> bytes:
    """A header with its length, and nothing after it."""
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(content)) + content

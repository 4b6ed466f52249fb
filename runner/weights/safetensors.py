"""Safetensors headers: what a file says of itself, read within bounds and without its tensors.

The format: eight bytes of length, that much JSON, then the tensors' bytes without any gap.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path

import msgspec

from runner.errors import BadInput, BadModelFile
from runner.weights.impostors import refuse_impostors

MAX_HEADER = 100 * 1024 * 1024
MAX_TENSORS = 1_000_000
MAX_DIMENSIONS = 64
MAX_WEIGHTS = 2**60
_LENGTH = 8
_METADATA = "__metadata__"
_AGAIN = "download or copy it again"

DTYPE_BITS: Mapping[str, int] = {
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E5M2FNUZ": 8,
    "F8_E4M3FNUZ": 8,
    "U16": 16,
    "I16": 16,
    "F16": 16,
    "BF16": 16,
    "U32": 32,
    "I32": 32,
    "F32": 32,
    "U64": 64,
    "I64": 64,
    "F64": 64,
    "C64": 64,
}


@dataclass(frozen=True, slots=True)
class SafeTensor:
    """`size` is bytes in the file; `dtype` as the format spells it, such as BF16."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int

    @property
    def weights(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True)
class SafetensorsInfo:
    """A file's header; `tensors` are in the order of their bytes."""

    tensors: tuple[SafeTensor, ...]
    metadata: Mapping[str, str]
    file_size: int

    @cached_property
    def parameters(self) -> int:
        """How many weights all tensors hold, as they are stored."""
        return sum(tensor.weights for tensor in self.tensors)


class _Entry(msgspec.Struct):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def read_safetensors(path: Path) -> SafetensorsInfo:
    """Reads a file's header; raises BadModelFile with what is wrong, and where it can what to do.

    Refused as by its own loader: types that are unknown, tensors that overlap, leave gaps, have
    bytes that do not fit their shape, or end before or after the file does.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(_LENGTH)
            length = _header_length(start, file.read(64), size)
            return _parsed(os.pread(file.fileno(), length, _LENGTH), size)
    except BadModelFile as error:
        raise BadModelFile(f"{path.name} {error.message}", hint=error.hint) from error
    except IsADirectoryError as error:
        raise BadInput(f"{path} is a folder, not a safetensors file") from error
    except OSError as error:
        raise BadInput(f"can't read {path}: {error.strerror}") from error


def parse_safetensors(content: bytes, file_size: int) -> SafetensorsInfo:
    """The header in a file's first bytes; raises BadModelFile, whose message continues the file's
    name."""
    length = _header_length(content[:_LENGTH], content[_LENGTH:], file_size)
    return _parsed(content[_LENGTH : _LENGTH + length], file_size)


def _header_length(start: bytes, following: bytes, file_size: int) -> int:
    length = int.from_bytes(start, "little")
    is_header = len(start) == _LENGTH and following[:1] == b"{"
    if not is_header or length > MAX_HEADER:
        refuse_impostors(start + following)
    if not is_header:
        raise BadModelFile("is not a safetensors file: it does not begin with a header")
    if length > MAX_HEADER:
        raise BadModelFile(f"claims a header of {length} bytes, at most 100 MiB are read")
    if _LENGTH + length > file_size:
        raise BadModelFile("is cut short: its header ends after the file", hint=_AGAIN)
    return length


def _parsed(header: bytes, file_size: int) -> SafetensorsInfo:
    try:
        entries = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        if len(entries) > MAX_TENSORS:
            raise BadModelFile(f"claims {len(entries)} tensors, at most {MAX_TENSORS} are read")
        metadata = _metadata(entries.pop(_METADATA, None))
        placed = sorted(_placed(name, raw) for name, raw in entries.items())
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadModelFile(f"has an unreadable header: {error}", hint=_AGAIN) from error
    _check_placement(placed, file_size - _LENGTH - len(header))
    return SafetensorsInfo(tuple(tensor for *_, tensor in placed), metadata, file_size)


def _metadata(raw: msgspec.Raw | None) -> dict[str, str]:
    if raw is None:
        return {}
    found = msgspec.json.decode(raw, type=dict[str, str] | None)
    return found or {}


def _placed(name: str, raw: msgspec.Raw) -> tuple[int, int, str, SafeTensor]:
    entry = msgspec.json.decode(raw, type=_Entry)
    begin, end = entry.data_offsets
    bits = DTYPE_BITS.get(entry.dtype)
    if bits is None:
        raise BadModelFile(
            f"gives the tensor {name[:80]!r} the unknown type {entry.dtype[:40]!r}",
            hint="update the runner",
        )
    shape = tuple(entry.shape)
    if len(shape) > MAX_DIMENSIONS or any(not 0 <= side <= MAX_WEIGHTS for side in shape):
        raise BadModelFile(f"has a tensor {name[:80]!r} of an unusable shape")
    weights = prod(shape)
    if weights > MAX_WEIGHTS:
        raise BadModelFile(f"has a tensor {name[:80]!r} of {weights} weights")
    if weights * bits != (end - begin) * 8:
        raise BadModelFile(
            f"gives the tensor {name[:80]!r} {end - begin} bytes, its shape needs"
            f" {-(-weights * bits // 8)}"
        )
    return begin, end, name, SafeTensor(name, entry.dtype, shape, end - begin)


def _check_placement(placed: list[tuple[int, int, str, SafeTensor]], data_size: int) -> None:
    position = 0
    for begin, end, name, _ in placed:
        if begin != position or end < begin:
            raise BadModelFile(
                f"places the tensor {name[:80]!r} at {begin} to {end}, expected from {position}"
            )
        position = end
    if position > data_size:
        raise BadModelFile(
            f"is cut short: its tensors need {position} bytes, it holds {data_size}", hint=_AGAIN
        )
    if position < data_size:
        raise BadModelFile(f"holds {data_size - position} bytes after its last tensor", hint=_AGAIN)

"""GGUF headers: what a file says of itself, read within bounds and without its big arrays."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path

from runner.errors import BadInput, BadModelFile
from runner.weights.ggml import FILE_TYPES, GUESSED_FILE_TYPES, TENSOR_TYPES, TensorType
from runner.weights.gguf_header import Array, Header, NeedsMore, Tensor, Value, parse_header
from runner.weights.impostors import refuse_impostors

FIRST_READ = 16 * 1024 * 1024
MAX_HEADER = 128 * 1024 * 1024
DEFAULT_ALIGNMENT = 32
F16_BYTES = 2
MAX_LAYERS = 65_536
_GGUF = b"GGUF"


@dataclass(frozen=True)
class GgufInfo:
    """A GGUF file's header. Sizes are bytes; `data_start` is where tensor data begins."""

    version: int
    metadata: Mapping[str, Value]
    tensors: tuple[Tensor, ...]
    data_start: int
    file_size: int

    @property
    def architecture(self) -> str:
        """`general.architecture`; llama where the file does not say."""
        return self.text("general.architecture") or "llama"

    @cached_property
    def parameters(self) -> int:
        """How many weights all tensors hold."""
        return sum(prod(tensor.shape) for tensor in self.tensors)

    @property
    def data_size(self) -> int:
        """Bytes of tensor data, padding included."""
        return self.file_size - self.data_start

    @property
    def context_length(self) -> int | None:
        """Tokens that the model was trained for."""
        return self.number("context_length")

    @property
    def block_count(self) -> int | None:
        return self.number("block_count")

    @property
    def shards(self) -> int:
        """How many files the model is split over."""
        count = self.metadata.get("split.count")
        return count if isinstance(count, int) and count > 1 else 1

    @cached_property
    def quantization(self) -> str:
        """llama.cpp's name of the file's type, such as Q4_K_M; guessed from the tensors where
        the file does not say; Unknown."""
        stated = self.metadata.get("general.file_type")
        if isinstance(stated, int) and stated in FILE_TYPES:
            return FILE_TYPES[stated]
        return self._guessed_quantization()

    def text(self, key: str) -> str:
        value = self.metadata.get(key)
        return value.strip() if isinstance(value, str) else ""

    def number(self, key: str) -> int | None:
        """A whole number under the architecture's own prefix."""
        return _whole(self.metadata.get(f"{self.architecture}.{key}"))

    def numbers(self, key: str, layers: int) -> tuple[int, ...] | None:
        """One whole number per layer, whether the file holds one for all or one for each."""
        value = self.metadata.get(f"{self.architecture}.{key}")
        listed = value.values or () if isinstance(value, Array) else (value,) * layers
        found = [number for number in map(_whole, listed[:layers]) if number is not None]
        return tuple(found) if len(found) == layers else None

    def _guessed_quantization(self) -> str:
        counts: dict[int, int] = {}
        for tensor in self.tensors:
            if tensor.name.startswith("blk."):
                counts[tensor.type] = counts.get(tensor.type, 0) + 1
        ranked = sorted(counts, key=lambda kind: (-counts[kind], kind))
        if len(ranked) > 1 and ranked[0] == TensorType.F32:
            del ranked[0]
        return GUESSED_FILE_TYPES.get(ranked[0], "Unknown") if ranked else "Unknown"


def read_gguf(path: Path) -> GgufInfo:
    """Reads a file's header; raises BadModelFile with what is wrong, and where it can what to do.

    A file that is cut short, so that its tensors do not fit, is refused.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            wanted = FIRST_READ
            while True:
                content = os.pread(file.fileno(), wanted, 0)
                try:
                    return _named(path, content, size)
                except NeedsMore as more:
                    if len(content) >= size:
                        raise BadModelFile(
                            f"{path.name} is cut short: its header ends in the middle",
                            hint="download or copy it again",
                        ) from more
                    if wanted >= MAX_HEADER:
                        raise BadModelFile(
                            f"{path.name} has a header larger than 128 MiB"
                        ) from more
                    wanted *= 2
    except IsADirectoryError as error:
        raise BadInput(f"{path} is a folder, not a GGUF file") from error
    except OSError as error:
        raise BadInput(f"can't read {path}: {error.strerror}") from error


def _named(path: Path, content: bytes, size: int) -> GgufInfo:
    try:
        return parse_gguf(content, size)
    except BadModelFile as error:
        raise BadModelFile(f"{path.name} {error.message}", hint=error.hint) from error


def parse_gguf(content: bytes, file_size: int) -> GgufInfo:
    """The header in a file's first bytes. Raises NeedsMore where these do not hold all of it,
    BadModelFile (its message continues the file's name) where they are wrong."""
    _refuse_other_formats(content)
    header = parse_header(content, file_size)
    alignment = header.metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise BadModelFile(f"has an alignment of {alignment}, which is no power of two")
    start = -(-header.end // alignment) * alignment if header.tensors else header.end
    _check_tensor_data(header, start, file_size)
    return GgufInfo(header.version, header.metadata, header.tensors, start, file_size)


def kv_bytes(info: GgufInfo, context_size: int) -> int | None:
    """Bytes of an f16 key and value cache for `context_size` tokens, over all layers.

    An upper bound for models with sliding windows. None where the header does not say enough, as
    an adapter's does not.
    """
    layers = info.block_count
    if layers is None or layers > MAX_LAYERS:
        return None
    heads = info.numbers("attention.head_count", layers)
    if heads is None:
        if any(key.startswith(f"{info.architecture}.ssm.") for key in info.metadata):
            return 0  # a purely recurrent model keeps no keys and values
        return None
    kv_heads = info.numbers("attention.head_count_kv", layers) or heads
    key, value = info.number("attention.key_length"), info.number("attention.value_length")
    if key is None or value is None:
        head_size = _head_size(info, heads)
        if head_size is None:
            return None
        key, value = head_size if key is None else key, head_size if value is None else value
    per_head = key + value
    return sum(kv_heads) * per_head * F16_BYTES * context_size


def _whole(value: Value | None) -> int | None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        return None
    return value


def _head_size(info: GgufInfo, heads: tuple[int, ...]) -> int | None:
    width, most = info.number("embedding_length"), max(heads, default=0)
    if width is None:
        return None
    return width // most if most else 0


def _refuse_other_formats(content: bytes) -> None:
    if content[:4] == _GGUF:
        return
    refuse_impostors(content)
    raise BadModelFile("is not a GGUF file: it does not begin with GGUF")


def tensor_size(tensor: Tensor) -> int:
    """Bytes of a tensor's data; 0 where its type is not known."""
    kind = TENSOR_TYPES.get(tensor.type)
    return prod(tensor.shape) // kind.block * kind.size if kind else 0


def _check_tensor_data(header: Header, start: int, file_size: int) -> None:
    end = start
    for tensor in header.tensors:
        kind = TENSOR_TYPES.get(tensor.type)
        if kind and tensor.shape and tensor.shape[0] % kind.block:
            raise BadModelFile(
                f"has a tensor {tensor.name!r} whose rows of {tensor.shape[0]} are no"
                f" multiple of {kind.name}'s block of {kind.block}"
            )
        end = max(end, start + tensor.offset + tensor_size(tensor))
    if end > file_size:
        raise BadModelFile(
            f"is cut short: its tensors end at byte {end}, the file at byte {file_size}",
            hint="download or copy it again",
        )

"""The weights in a model's folder: their format by their contents, whether they are whole, and what
their headers say."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import msgspec

from runner.artifacts.formats import shown_formats
from runner.artifacts.media import LayerKind, ModelFormat
from runner.errors import BadInput, BadModelFile
from runner.models.folder import Folder, FolderFile
from runner.store.files import explained
from runner.weights.gguf_shards import GgufModel, read_gguf_model
from runner.weights.pickles import is_pickle
from runner.weights.safetensors import DTYPE_BITS, SafeTensor, SafetensorsInfo, read_safetensors
from runner.weights.shards import require_shards, shard_names

MAX_INDEX = 100 * 1024 * 1024
MAX_METADATA_TEXT = 16 * 1024
_INDEX = ".safetensors.index.json"
_FIRST = 4096
_CT2_VERSIONS = range(1, 64)
_CT2_HEAD = struct.Struct("<IH")
_ONNX_VERSION = b"\x08"
"""The tag of an ONNX model's first field, its version."""
_PACKED = ("qweight", "weight_packed")
_PACKED_TYPES = frozenset({"I32", "U32", "U8"})


@dataclass(frozen=True, slots=True)
class Weights:
    """`size` is bytes of weights; what is not known is empty."""

    size: int
    parameters: int = 0
    quantization: str = ""
    architecture: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


class _Index(msgspec.Struct):
    weight_map: dict[str, str]


def told_format(folder: Folder) -> ModelFormat:
    """The format of a folder's weights; formats that share file names are told by contents.

    Raises BadInput where there are none of a format that is known.
    """
    kinds = {file.kind for file in folder.files}
    for shown in shown_formats(kinds, folder.names):
        proof = _PROOFS.get(shown)
        if proof is None or proof(folder):
            return shown
    raise BadInput(
        f"{folder.path} holds no weights of a format that is known",
        hint="known are GGUF, safetensors, DDUF, diffusers, PyTorch, ONNX, CTranslate2, OpenVINO",
    )


def gguf_model(folder: Folder) -> GgufModel:
    """The one GGUF model in a folder; raises BadInput where there are several, BadModelFile."""
    files = folder.of(LayerKind.GGUF)
    models = {shard_names(file.path)[0] for file in files}
    if len(models) > 1:
        raise BadInput(
            f"{folder.path} holds {len(models)} GGUF models: {', '.join(sorted(models)[:5])}",
            hint="package one of them: runner package --gguf FILE NAME",
        )
    return read_gguf_model(folder.source(files[0]))


def read_weights(folder: Folder, model_format: ModelFormat, bits: int | None) -> Weights:
    """What the weights' headers say; `bits` is the width of packed ones, where it is known.

    Raises BadModelFile where one is broken or a shard is missing.
    """
    files = folder.of(LayerKind.SAFETENSORS)
    if files and model_format in {ModelFormat.SAFETENSORS, ModelFormat.DIFFUSERS}:
        return _safetensors(folder, _whole(folder, files), bits)
    size = sum(file.size for file in folder.of(LayerKind.WEIGHT))
    is_ct2 = model_format is ModelFormat.CTRANSLATE2
    return Weights(size, architecture=_ct2_spec(folder.source("model.bin")) if is_ct2 else "")


def _whole(folder: Folder, files: tuple[FolderFile, ...]) -> tuple[FolderFile, ...]:
    """The files that hold the model: those that its indexes name, else all there are."""
    for file in files:
        require_shards(shard_names(file.path), folder.names)
    indexed = {path for name in sorted(folder.names) for path in _indexed(folder, name)}
    require_shards(indexed, folder.names)
    return tuple(file for file in files if not indexed or file.path in indexed)


def _indexed(folder: Folder, name: str) -> Iterator[str]:
    """The files that an index of shards names; none where it is no index."""
    if not name.endswith(_INDEX):
        return
    path = folder.source(name)
    with explained(path), path.open("rb") as file:
        content = file.read(MAX_INDEX + 1)
    try:
        index = msgspec.json.decode(content[:MAX_INDEX], type=_Index)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadModelFile(
            f"{path.name} is no index of shards: {error}", hint="download or copy it again"
        ) from error
    inside = PurePosixPath(name).parent
    yield from {str(inside / shard) for shard in index.weight_map.values()}


def _safetensors(folder: Folder, files: Iterable[FolderFile], bits: int | None) -> Weights:
    infos = [read_safetensors(folder.source(file)) for file in files]
    types = {tensor.dtype for info in infos for tensor in info.tensors}
    metadata = {k: v for k, v in infos[0].metadata.items() if len(v) <= MAX_METADATA_TEXT}
    metadata["tensor_count"] = str(sum(len(info.tensors) for info in infos))
    return Weights(
        size=sum(info.file_size for info in infos),
        parameters=sum(_parameters(info, bits) for info in infos),
        quantization=types.pop() if len(types) == 1 else "mixed" if types else "unknown",
        architecture=infos[0].metadata.get("architecture", ""),
        metadata=dict(sorted(metadata.items())),
    )


def _parameters(info: SafetensorsInfo, bits: int | None) -> int:
    """Weights, where several are packed into one number too."""
    if bits is None:
        return info.parameters
    names = {tensor.name for tensor in info.tensors}
    return sum(
        tensor.weights * DTYPE_BITS[tensor.dtype] // bits if _is_packed(tensor, names) else
        tensor.weights
        for tensor in info.tensors
    )  # fmt: skip


def _is_packed(tensor: SafeTensor, names: set[str]) -> bool:
    scaled = f"{tensor.name.removesuffix('weight')}scales" in names  # as MLX packs them
    return tensor.dtype in _PACKED_TYPES and (scaled or tensor.name.endswith(_PACKED))


def _is_ct2(folder: Folder) -> bool:
    return bool(_ct2_spec(folder.source("model.bin")))


def _ct2_spec(path: Path) -> str:
    """What a CTranslate2 model says that it is, such as WhisperSpec; empty for any other file."""
    first = _first(path)
    if len(first) < _CT2_HEAD.size:
        return ""
    version, length = _CT2_HEAD.unpack_from(first)
    name = first[_CT2_HEAD.size : _CT2_HEAD.size + length].removesuffix(b"\0")
    is_spec = name.endswith(b"Spec") and name.isalnum() and version in _CT2_VERSIONS
    return name.decode("ascii", "replace") if is_spec else ""


def _is_openvino(folder: Folder) -> bool:
    paths = (name for name in folder.names if name.endswith(".xml"))
    return any(b"<net" in _first(folder.source(path)) for path in paths)


def _is_onnx(folder: Folder) -> bool:
    paths = (name for name in folder.names if name.lower().endswith(".onnx"))
    return any(_first(folder.source(path)).startswith(_ONNX_VERSION) for path in paths)


def _is_pytorch(folder: Folder) -> bool:
    named_so = (name for name in sorted(folder.names) if is_pickle(name))
    return any(is_pickle(folder.source(name)) for name in named_so)


def _first(path: Path) -> bytes:
    with explained(path), path.open("rb") as file:
        return file.read(_FIRST)


_PROOFS: Mapping[ModelFormat, Callable[[Folder], bool]] = {
    ModelFormat.CTRANSLATE2: _is_ct2,
    ModelFormat.OPENVINO: _is_openvino,
    ModelFormat.ONNX: _is_onnx,
    ModelFormat.PYTORCH: _is_pytorch,
}

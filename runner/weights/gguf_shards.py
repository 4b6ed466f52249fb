"""A GGUF model in one file or split over several, read as one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from runner.errors import BadModelFile
from runner.weights.gguf import GgufInfo, read_gguf
from runner.weights.shards import require_shards, shard_names

_NUMBER, _TENSORS = "split.no", "split.tensors.count"


@dataclass(frozen=True, slots=True)
class GgufModel:
    """`paths` are the model's files in their order. `info` describes the whole: the first file's
    metadata, all tensors (each one's offset counts within its own file), all bytes of tensor data.
    """

    paths: tuple[Path, ...]
    info: GgufInfo


def read_gguf_model(path: Path) -> GgufModel:
    """Reads the model that a file is, or is any shard of.

    Raises BadInput, BadModelFile where a shard is missing or belongs to another model.
    """
    first = read_gguf(path)
    if first.shards == 1:
        return GgufModel((path,), first)
    names = shard_names(path.name)
    if len(names) != first.shards:
        raise BadModelFile(
            f"{path.name} is one of {first.shards} shards, which its name does not say",
            hint=f"name the shards as in model-00001-of-{first.shards:05d}.gguf",
        )
    present = {name for name in names if (path.parent / name).exists()}
    require_shards(names, present)
    paths = tuple(path.parent / name for name in names)
    return GgufModel(paths, _joined(paths, tuple(read_gguf(shard) for shard in paths)))


def _joined(paths: tuple[Path, ...], infos: tuple[GgufInfo, ...]) -> GgufInfo:
    first = infos[0]
    for number, (path, info) in enumerate(zip(paths, infos, strict=True)):
        if info.shards != len(infos) or info.metadata.get(_NUMBER, number) != number:
            raise BadModelFile(
                f"{path.name} says that it is shard {info.metadata.get(_NUMBER)!r} of"
                f" {info.shards}, counted from 0",
                hint="put the shards of one model, and no other, into the folder",
            )
    tensors = tuple(tensor for info in infos for tensor in info.tensors)
    expected = first.metadata.get(_TENSORS)
    if isinstance(expected, int) and expected != len(tensors):
        raise BadModelFile(
            f"{paths[0].name} speaks of {expected} tensors, its shards hold {len(tensors)}",
            hint="put the shards of one model, and no other, into the folder",
        )
    size = first.data_start + sum(info.data_size for info in infos)
    return replace(first, tensors=tensors, file_size=size)

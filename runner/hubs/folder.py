"""Which files of a repository make a model's folder: one set of weights, and what goes with it.

Repositories hold the same weights several times, for other frameworks. Taken is the first of
these that there is: safetensors, PyTorch (CTranslate2 and OpenVINO are called alike), ONNX. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from runner.hubs.listing import HubFile

_SAFETENSORS = frozenset({".safetensors"})
_PYTORCH = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
_ONNX = frozenset({".onnx", ".onnx_data"})
_OTHERS = frozenset({".h5", ".msgpack", ".npz", ".ot", ".tflite", ".pb", ".nemo", ".mlmodel"})
_FAMILIES = (_SAFETENSORS, _PYTORCH, _ONNX)
_WEIGHTS = frozenset().union(*_FAMILIES, _OTHERS, {".gguf", ".dduf"})

_SIDE_FOLDERS = frozenset({"original", "onnx", "openvino", "coreml", "metal", "tf", "flax"})
_NEVER_FOLDERS = re.compile(r"runs|checkpoint-\d+", re.ASCII)
_PICTURES = frozenset(
    {".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".mp4", ".webm", ".wav", ".mp3", ".pdf"}
)
_CONSOLIDATED = "consolidated"
_HALF = re.compile(r"\.(?:fp16|bf16)(?=[.-])", re.ASCII)


def folder_files(files: Sequence[HubFile]) -> tuple[HubFile, ...]:
    """Weights and everything else, in the order of their paths; empty where no weights are.

    Left out are hidden files, pictures and other documents, training checkpoints, GGML (the
    format before GGUF), the same weights again (of other frameworks, in folders of their own, as
    `consolidated` file, in half precision beside the whole), and in a repository of diffusers
    what lies beside its folders.
    """
    visible = [file for file in files if not _is_never_wanted(file)]
    inner = [file for file in visible if not _SIDE_FOLDERS.intersection(_folders(file))]
    for candidates in (inner, visible):
        family = next((f for f in _FAMILIES if any(_suffix(x) in f for x in candidates)), None)
        if family:
            kept = _without_twins(candidates, family)
            return tuple(sorted(kept, key=lambda file: file.path))
    return ()


def _without_twins(files: Sequence[HubFile], family: frozenset[str]) -> list[HubFile]:
    paths = {file.path for file in files}
    own = [file for file in files if _suffix(file) in family]
    at_home = {PurePosixPath(file.path).parent for file in own}
    is_diffusers = "model_index.json" in paths and any("/" in file.path for file in own)

    def is_wanted(file: HubFile) -> bool:
        if _suffix(file) not in _WEIGHTS:
            return True
        if _suffix(file) not in family:
            # a part that exists in this form alone, such as a layer of a sentence transformer
            return _suffix(file) in _PYTORCH and PurePosixPath(file.path).parent not in at_home
        is_beside = is_diffusers and "/" not in file.path
        whole = _HALF.sub("", file.path)
        is_half_twin = whole != file.path and whole in paths
        return not (is_beside or is_half_twin or _is_consolidated_twin(file, own))

    return [file for file in files if is_wanted(file)]


def _is_consolidated_twin(file: HubFile, own: Sequence[HubFile]) -> bool:
    place = PurePosixPath(file.path)
    return place.name.startswith(_CONSOLIDATED) and any(
        PurePosixPath(other.path).parent == place.parent
        and not PurePosixPath(other.path).name.startswith(_CONSOLIDATED)
        for other in own
    )


def _is_never_wanted(file: HubFile) -> bool:
    parts = PurePosixPath(file.path).parts
    is_hidden = any(part.startswith(".") for part in parts)
    aside = any(_NEVER_FOLDERS.fullmatch(part) for part in parts[:-1])
    is_ggml = _suffix(file) == ".bin" and "ggml" in parts[-1].lower()
    return is_hidden or aside or is_ggml or _suffix(file) in _PICTURES


def _folders(file: HubFile) -> set[str]:
    return {part.lower() for part in PurePosixPath(file.path).parts[:-1]}


def _suffix(file: HubFile) -> str:
    return PurePosixPath(file.path).suffix.lower()

"""The demo model with its projections packed to 4 bits, as AutoAWQ and AutoGPTQ do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from runner.demo import huggingface_path

BITS, GROUP = 4, 128
IN_WORD = 32 // BITS
MIDDLE = 1 << (BITS - 1)
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)

Array = NDArray[np.generic]


class Packing(StrEnum):
    AWQ = "awq"
    GPTQ = "gptq"
    GPTQ_WITHOUT_INDEX = "gptq without g_idx"

    @property
    def method(self) -> str:
        return self.value.partition(" ")[0]


def packed(folder: Path, packing: Packing) -> Path:
    """A Hugging Face folder in a subfolder."""
    copy = folder / packing.method
    shutil.copytree(huggingface_path(), copy)
    config = json.loads((copy / "config.json").read_text())
    stated = {"quant_method": packing.method, "bits": BITS, "group_size": GROUP}
    (copy / "config.json").write_text(json.dumps({**config, "quantization_config": stated}))
    tensors: dict[str, Array] = {}
    for name, tensor in load_file(copy / "model.safetensors").items():
        stem = name.removesuffix(".weight")
        parts = _parts(tensor, packing) if stem.endswith("_proj") else {"weight": tensor}
        tensors |= {f"{stem}.{part}": np.ascontiguousarray(held) for part, held in parts.items()}
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


def _parts(tensor: Array, packing: Packing) -> Mapping[str, Array]:
    """Of a matrix [out, in]: integers and zeros [in, out] in 32-bit words, a scale for a group."""
    weights = np.ascontiguousarray(tensor.astype(np.float32).T)
    rows, columns = weights.shape
    grouped = weights.reshape(rows // GROUP, GROUP, columns)
    scales = (np.abs(grouped).max(axis=1) / (MIDDLE - 1)).astype(np.float16)
    exact = grouped / np.maximum(scales[:, None].astype(np.float32), np.finfo(np.float16).tiny)
    integers = np.clip(np.round(exact) + MIDDLE, 0, (1 << BITS) - 1)
    integers = integers.astype(np.uint32).reshape(rows, columns)
    zeros = np.full((rows // GROUP, columns), MIDDLE, np.uint32)
    if packing is Packing.AWQ:
        return {"qweight": _along(integers), "qzeros": _along(zeros), "scales": scales}
    index = {"g_idx": (np.arange(rows) // GROUP).astype(np.int32)}
    return {
        "qweight": _along(integers.T, range(IN_WORD)).T,
        "qzeros": _along(zeros - 1, range(IN_WORD)),
        "scales": scales,
        **(index if packing is Packing.GPTQ else {}),
    }


def _along(integers: Array, order: tuple[int, ...] | range = AWQ_ORDER) -> Array:
    """Eight neighbours of a row in a word, the one that the order names first lowest."""
    rows, columns = integers.shape
    neighbours = np.ascontiguousarray(integers).reshape(rows, columns // IN_WORD, IN_WORD)
    words = np.zeros((rows, columns // IN_WORD), np.uint32)
    for place, which in enumerate(order):
        words |= neighbours[:, :, which].astype(np.uint32) << np.uint32(BITS * place)
    return words.view(np.int32)

"""Which format a model has, told by what its files are called and what they are for. Pure."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import PurePosixPath

from runner.artifacts.media import LayerKind, ModelFormat
from runner.weights.pickles import PICKLE_SUFFIXES, is_ctranslate2, is_openvino

PIPELINE = "model_index.json"
PLAIN_FORMATS = frozenset(
    {ModelFormat.GGUF, ModelFormat.SAFETENSORS, ModelFormat.DDUF, ModelFormat.DIFFUSERS}
)
"""Formats that files show beyond doubt."""


def shown_format(kinds: Collection[LayerKind], names: Collection[str]) -> ModelFormat:
    """The first of `shown_formats`; OTHER where none shows."""
    return next(iter(shown_formats(kinds, names)), ModelFormat.OTHER)


def shown_formats(kinds: Collection[LayerKind], names: Collection[str]) -> tuple[ModelFormat, ...]:
    """The formats that a model with files of these kinds and these paths may have.

    Where there are several, the first is the one whose weights an engine would load: a GGUF
    before others, safetensors before pickles.
    """
    suffixes = {PurePosixPath(name).suffix.lower() for name in names}
    rules = (
        (ModelFormat.GGUF, LayerKind.GGUF in kinds or LayerKind.LORA in kinds),
        (ModelFormat.DDUF, LayerKind.DDUF in kinds),
        (ModelFormat.DIFFUSERS, PIPELINE in names),
        (ModelFormat.SAFETENSORS, LayerKind.SAFETENSORS in kinds),
        (ModelFormat.OPENVINO, is_openvino(names)),
        (ModelFormat.CTRANSLATE2, is_ctranslate2(names)),
        (ModelFormat.ONNX, ".onnx" in suffixes),
        (ModelFormat.PYTORCH, bool(PICKLE_SUFFIXES & suffixes)),
    )
    return tuple(found for found, is_shown in rules if is_shown)

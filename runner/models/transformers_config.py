"""config.json as transformers, vLLM and MLX write it: architecture, context, quantization. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from runner.artifacts.artifact import MAX_CONTEXT
from runner.artifacts.documents import Json, inner_object, text_of, whole_number

_CONTEXT_KEYS = (
    "max_position_embeddings",
    "n_ctx",
    "n_positions",
    "max_length",
    "max_sequence_length",
    "model_max_length",
)
"""Docker Model Runner's list; the first that is there counts."""
LANGUAGE_PARTS = ("text_config", "llm_config", "language_config", "thinker_config")
"""Where models of several senses keep what belongs to their language model."""
_QUANTIZATIONS = ("quantization_config", "compression_config", "quantization")
_METHOD = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}", re.ASCII)
_MLX = "mlx"
UNKNOWN = "unknown"
"""A quantization that is there and names no method: weights that few could read, and not plain."""
MAX_BITS = 16


@dataclass(frozen=True, slots=True)
class TransformersConfig:
    """`quantization` is a method with its width, such as `awq-int4` or `fp8`, empty for none and
    `unknown` for one that can't be told; `bits` is the width of a packed weight, if known."""

    architecture: str = ""
    context_size: int | None = None
    quantization: str = ""
    bits: int | None = None


def read_transformers_config(document: Mapping[str, Json]) -> TransformersConfig:
    """What config.json says; what it does not say is empty."""
    parts = tuple(_parts(document))
    sizes = (whole_number(part.get(key), MAX_CONTEXT) for part in parts for key in _CONTEXT_KEYS)
    quantization, bits = next(
        (found for part in parts if (found := _quantization(part))), ("", None)
    )
    return TransformersConfig(
        architecture=_architecture(document),
        context_size=next((size for size in sizes if size), None),
        quantization=quantization,
        bits=bits,
    )


def _parts(document: Mapping[str, Json]) -> Iterator[Mapping[str, Json]]:
    yield document
    for name in LANGUAGE_PARTS:
        yield inner_object(document, name)


def _architecture(document: Mapping[str, Json]) -> str:
    listed = document.get("architectures")
    first = text_of(listed[0]) if isinstance(listed, list) and listed else ""
    return first or text_of(document.get("model_type"))


def _quantization(part: Mapping[str, Json]) -> tuple[str, int | None] | None:
    stated = next((found for name in _QUANTIZATIONS if (found := inner_object(part, name))), {})
    if not stated:
        return None
    method = text_of(stated.get("quant_method")).lower()
    if not method and "group_size" in stated:
        method = _MLX  # the only one that names no method
    if not _METHOD.fullmatch(method):
        return UNKNOWN, None
    bits = _bits(method, stated)
    is_float = method.startswith(("fp", "mxfp", "nvfp")) or _kind(stated) == "float"
    width = f"{'fp' if is_float else 'int'}{bits}" if bits else ""
    return (method if not width or width in method else f"{method}-{width}"), bits


def _bits(method: str, stated: Mapping[str, Json]) -> int | None:
    if method == "bitsandbytes":
        loaded = {4: stated.get("load_in_4bit"), 8: stated.get("load_in_8bit")}
        return next((bits for bits, is_loaded in loaded.items() if is_loaded is True), None)
    found = (stated.get(name) for name in ("bits", "w_bit", "num_bits"))
    stated_bits = next((bits for bits in found if bits is not None), None)
    grouped = {whole_number(weights.get("num_bits"), MAX_BITS) for weights in _groups(stated)}
    return whole_number(stated_bits, MAX_BITS) or (grouped.pop() if len(grouped) == 1 else None)


def _kind(stated: Mapping[str, Json]) -> str:
    kinds = {text_of(weights.get("type")) for weights in _groups(stated)}
    return kinds.pop() if len(kinds) == 1 else ""


def _groups(stated: Mapping[str, Json]) -> Iterator[Mapping[str, Json]]:
    """The weights of each of compressed-tensors' groups."""
    for group in inner_object(stated, "config_groups").values():
        weights = inner_object(group, "weights")
        if weights:
            yield weights

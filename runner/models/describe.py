"""What a model's own files say of it, in the words of a config.

Docker Model Runner's Go program fixes how numbers of the GGUF header become text, and how counts
and sizes are spelled: `7B` and `256.35MiB` for GGUF, `7.00B` and `268.80MB` for the rest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import structs

from runner.artifacts.artifact import ModelConfig
from runner.artifacts.documents import Json, json_object, text_of
from runner.artifacts.formats import PIPELINE
from runner.artifacts.media import LayerKind, ModelFormat
from runner.errors import BadModelFile
from runner.models.folder import Folder
from runner.models.folder_weights import Weights, gguf_model, read_weights, told_format
from runner.models.transformers_config import TransformersConfig, read_transformers_config
from runner.store.files import explained
from runner.weights.gguf import GgufInfo
from runner.weights.gguf_header import Array, Scalar, Value
from runner.weights.pickles import is_left_over, is_pickle, pickled_names
from runner.weights.zips import member_names

KEPT_ARRAY = 10
MAX_JSON = 16 * 1024 * 1024
_CONFIG, _ADAPTER = "config.json", "adapter_config.json"
_SHARED_NAMES = {
    "Q3_K_S": "Q3_K/Q3_K_S",
    "Q3_K_M": "Q4_K/Q3_K_M",
    "Q3_K_L": "Q5_K/Q3_K_L",
    "Q4_K_S": "Q6_K/Q4_K_S",
    "Q4_K_M": "IQ2_XXS/Q4_K_M",
    "Q5_K_S": "IQ2_XS/Q5_K_S",
    "Q5_K_M": "IQ3_XXS/Q5_K_M",
    "Q6_K": "IQ1_S/Q6_K",
}
"""Docker Model Runner's parser numbers file types twice; where one of its two names is
llama.cpp's we write its pair, elsewhere llama.cpp's name alone."""

_COUNTS = ((10**15, "Q"), (10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))
_BYTES = (
    (2**50, "Pi"),
    (10**15, "P"),
    (2**40, "Ti"),
    (10**12, "T"),
    (2**30, "Gi"),
    (10**9, "G"),
    (2**20, "Mi"),
    (10**6, "M"),
    (2**10, "Ki"),
    (10**3, "K"),
)
_DECIMAL_COUNTS = ("", "K", "M", "B", "T")
_DECIMAL_BYTES = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def gguf_config(info: GgufInfo, context_size: int | None = None) -> ModelConfig:
    """`context_size` is what the packager asks for; the model's own stays in the metadata."""
    return ModelConfig(
        format=ModelFormat.GGUF,
        quantization=_SHARED_NAMES.get(info.quantization, info.quantization),
        parameters=count_text(info.parameters),
        architecture=info.architecture,
        size=bytes_text(info.data_size),
        metadata=metadata_texts(info.metadata),
        context_size=context_size,
    )


def dduf_config(path: Path) -> ModelConfig:
    """A pipeline in one file. Raises BadModelFile where it is none, BadInput."""
    if PIPELINE not in member_names(path):
        raise BadModelFile(
            f"{path.name} is no DDUF file: it has no {PIPELINE}",
            hint="package other archives with what made them, or their folder with --dir",
        )
    return ModelConfig(
        format=ModelFormat.DDUF,
        architecture="diffusers",
        size=decimal_text(path.stat().st_size, _DECIMAL_BYTES),
        metadata={"dduf_file": path.name, "layout": "dduf"},
    )


def folder_config(folder: Folder) -> ModelConfig:
    """What a folder holds, by its files' contents; its context size is the model's own.

    `pickles` is set where any file that an engine may load is one, or is called like one. Raises
    BadModelFile for weights that are broken or incomplete, BadInput where there are none of a
    format that is known.
    """
    model_format = told_format(folder)
    pickles = _has_pickles(folder)
    if model_format is ModelFormat.GGUF:
        return structs.replace(gguf_config(gguf_model(folder).info), pickles=pickles)
    if model_format is ModelFormat.DDUF:
        (file,) = folder.of(LayerKind.DDUF)[:1]
        return structs.replace(dduf_config(folder.source(file)), pickles=pickles)
    stated = read_transformers_config(_document(folder, _CONFIG))
    weights = read_weights(folder, model_format, stated.bits)
    return ModelConfig(
        format=model_format,
        quantization=stated.quantization or weights.quantization,
        parameters=decimal_text(weights.parameters, _DECIMAL_COUNTS) if weights.parameters else "",
        architecture=_architecture(folder, stated, weights),
        size=decimal_text(weights.size, _DECIMAL_BYTES),
        context_size=stated.context_size,
        metadata=weights.metadata,
        base=text_of(_document(folder, _ADAPTER).get("base_model_name_or_path")),
        pickles=pickles,
    )


def metadata_texts(metadata: Mapping[str, Value]) -> dict[str, str]:
    """GGUF metadata as sorted texts, without arrays of more than ten items."""
    return {
        key: _value_text(value)
        for key, value in sorted(metadata.items())
        if not isinstance(value, Array) or value.length <= KEPT_ARRAY
    }


def count_text(count: int) -> str:
    """Parameters as `183`, `16.78M`, `1.5B`."""
    return _scaled(count, _COUNTS)


def bytes_text(size: int) -> str:
    """Bytes as `864B`, `256.35MiB`."""
    return f"{_scaled(size, _BYTES)}B"


def decimal_text(number: int, units: Sequence[str]) -> str:
    """Scaled by thousands, always with two decimals: `7.00B`."""
    scaled, power = float(number), 0
    while scaled >= 1000 and power < len(units) - 1:  # noqa: PLR2004
        scaled, power = scaled / 1000, power + 1
    return f"{scaled:.2f}{units[power]}"


def _document(folder: Folder, name: str) -> Mapping[str, Json]:
    """A JSON file at the folder's top; empty where there is none."""
    if name not in folder.names:
        return {}
    path = folder.source(name)
    with explained(path), path.open("rb") as file:
        return json_object(file.read(MAX_JSON + 1), MAX_JSON, f"file {path.name}")


def _architecture(folder: Folder, stated: TransformersConfig, weights: Weights) -> str:
    pipeline = text_of(_document(folder, PIPELINE).get("_class_name"))
    return pipeline or stated.architecture or weights.architecture


def _has_pickles(folder: Folder) -> bool:
    loaded = (file for file in folder.files if not is_left_over(file.path))
    return bool(pickled_names(folder.names)) or any(is_pickle(folder.source(f)) for f in loaded)


def _value_text(value: Value) -> str:
    if isinstance(value, Array):
        return ", ".join(_scalar_text(item) for item in value.values or ())
    return _scalar_text(value)


def _scalar_text(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        return f"{value:+f}".title() if math.isinf(value) else f"{value:f}"
    return str(value)


def _scaled(number: int, units: Sequence[tuple[int, str]]) -> str:
    base, unit = next(((b, u) for b, u in units if number >= b), (1, ""))
    return f"{number / base:.2f}".removesuffix(".00") + unit

"""What decides whether an engine can serve a model: read from the files that it would be given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runner.artifacts.documents import Json, inner_object, json_object, text_of, whole_number
from runner.artifacts.media import ModelFormat
from runner.errors import BadModelFile
from runner.models.adapters import is_adapter
from runner.models.transformers_config import LANGUAGE_PARTS, read_transformers_config
from runner.store.bundles import Bundle
from runner.store.files import explained
from runner.weights.gguf import GgufInfo, kv_bytes, read_gguf

NO_QUANTIZATION = "none"
MAX_JSON = 16 * 1024 * 1024
_CONFIG, _ADAPTER = "config.json", "adapter_config.json"
_LARGEST = 2**31
_KV_ELEMENT_BYTES = 2
"""Engines keep keys and values in half precision unless told otherwise."""


@dataclass(frozen=True, slots=True)
class ModelTraits:
    """A model as engines are chosen by. What its files do not say is empty or None.

    `architecture` is transformers' class name, or GGUF's word; `model_type` is transformers' short
    name. `quantization` is `none`, or a method with its width such as `awq-int4`; for GGUF
    llama.cpp's name. `heads` are attention heads, `context_size` is what the model was trained
    for, in tokens, `kv_bytes` what one token takes in the KV cache, `size` the bytes of all files.
    """

    format: ModelFormat
    quantization: str = NO_QUANTIZATION
    architecture: str = ""
    model_type: str = ""
    heads: int | None = None
    kv_heads: int | None = None
    context_size: int | None = None
    kv_bytes: int | None = None
    size: int = 0
    is_adapter: bool = False


def read_traits(bundle: Bundle) -> ModelTraits:
    """Raises BadModelFile for files that can't be read as what they are."""
    if bundle.format is ModelFormat.GGUF:
        return _of_gguf(read_gguf(bundle.model_file), bundle.size)
    return _of_folder(bundle)


def _of_gguf(info: GgufInfo, size: int) -> ModelTraits:
    return ModelTraits(
        format=ModelFormat.GGUF,
        quantization=info.quantization,
        architecture=info.architecture,
        model_type=info.architecture,
        heads=info.number("attention.head_count"),
        kv_heads=info.number("attention.head_count_kv"),
        context_size=info.context_length,
        kv_bytes=kv_bytes(info, 1),
        size=size,
        is_adapter=is_adapter(info),
    )


def _of_folder(bundle: Bundle) -> ModelTraits:
    folder = bundle.model_file.parent
    document = _document(folder / _CONFIG)
    stated = read_transformers_config(document)
    text = _text_part(document)
    return ModelTraits(
        format=bundle.format,
        quantization=stated.quantization or NO_QUANTIZATION,
        architecture=stated.architecture,
        model_type=text_of(document.get("model_type")),
        heads=whole_number(text.get("num_attention_heads"), _LARGEST),
        kv_heads=_kv_heads(text),
        context_size=stated.context_size,
        kv_bytes=_kv_bytes(text),
        size=bundle.size,
        is_adapter=not document and (folder / _ADAPTER).is_file(),
    )


def _document(file: Path) -> Mapping[str, Json]:
    """Empty where there is none: not every folder has one."""
    if not file.is_file():
        return {}
    with explained(file):
        if file.stat().st_size > MAX_JSON:
            raise BadModelFile(
                f"{file.name} is larger than {MAX_JSON // 1024 // 1024} MiB",
                hint="no engine reads such a one: package the model anew",
            )
        return json_object(file.read_bytes(), MAX_JSON, file.name)


def _text_part(document: Mapping[str, Json]) -> Mapping[str, Json]:
    """Where models of several senses keep what belongs to their language model."""
    inner = (inner_object(document, name) for name in LANGUAGE_PARTS)
    return next((part for part in inner if "num_hidden_layers" in part), document)


def _kv_heads(text: Mapping[str, Json]) -> int | None:
    names = ("num_key_value_heads", "num_kv_heads", "multi_query_group_num", "num_attention_heads")
    found = (whole_number(text.get(name), _LARGEST) for name in names)
    return next((number for number in found if number), None)


def _kv_bytes(text: Mapping[str, Json]) -> int | None:
    """Of one token in all layers: keys and values of each KV head, or MLA's latent vector."""
    layers = whole_number(text.get("num_hidden_layers"), _LARGEST)
    if layers is None:
        return None
    latent = whole_number(text.get("kv_lora_rank"), _LARGEST)
    if latent:
        rope = whole_number(text.get("qk_rope_head_dim"), _LARGEST) or 0
        return layers * (latent + rope) * _KV_ELEMENT_BYTES
    heads, kv_heads = whole_number(text.get("num_attention_heads"), _LARGEST), _kv_heads(text)
    hidden = whole_number(text.get("hidden_size"), _LARGEST)
    width = whole_number(text.get("head_dim"), _LARGEST)
    if not width and hidden and heads:
        width = hidden // heads
    return 2 * layers * kv_heads * width * _KV_ELEMENT_BYTES if kv_heads and width else None

"""The kinds of models that engines are chosen for: the demo model in each, as orders to package."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from runner.demo import gguf_path, huggingface_path
from runner.models.package_order import PackageFormat, PackageOrder
from runner.registry.reference import parse
from tests.weights.gguf_bytes import STRING, U32, Typed, gguf

QUANTIZED: Mapping[str, Mapping[str, object]] = {
    "awq": {"quantization_config": {"quant_method": "awq", "bits": 4}},
    "gptq": {"quantization_config": {"quant_method": "gptq", "bits": 8}},
    "gptq3": {"quantization_config": {"quant_method": "gptq", "bits": 3}},
    "gptq4": {"quantization_config": {"quant_method": "gptq", "bits": 4}},
    "fp8": {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}},
    "mlx": {"quantization": {"group_size": 64, "bits": 4}},
}


def orders(folder: Path) -> Mapping[str, PackageOrder]:
    """By kind; files that are not the demo model's own are made in the folder."""
    adapter, painter = folder / "adapter.gguf", folder / "painter.gguf"
    adapter.write_bytes(gguf({**_headless("llama"), "general.type": (STRING, "adapter")}))
    painter.write_bytes(gguf(_headless("flux")))
    return {
        "adapter": PackageOrder(parse("a/adapter"), lora=adapter, base="ai/base"),
        "painter": PackageOrder(parse("a/painter"), gguf=painter),
        "gguf": PackageOrder(parse("a/gguf"), gguf=gguf_path()),
        "safetensors": PackageOrder(parse("a/st"), safetensors=huggingface_path()),
        "modelpack": PackageOrder(
            parse("a/mp"), safetensors=huggingface_path(), dialect=PackageFormat.CNCF
        ),
        **{
            name: PackageOrder(parse(f"a/{name}"), safetensors=_with(folder / name, change))
            for name, change in QUANTIZED.items()
        },
    }


def _headless(architecture: str) -> Mapping[str, Typed]:
    """A header without what a language model's cache is counted from."""
    return {"general.architecture": (STRING, architecture), "general.file_type": (U32, 1)}


def _with(folder: Path, change: Mapping[str, object]) -> Path:
    """The demo model, whose config tells of another quantization."""
    shutil.copytree(huggingface_path(), folder)
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    return folder

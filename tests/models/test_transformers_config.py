"""config.json of transformers and its kin."""

from __future__ import annotations

from typing import Any

import pytest

from runner.models.transformers_config import TransformersConfig, read_transformers_config


def test_nothing() -> None:
    assert read_transformers_config({}) == TransformersConfig()


@pytest.mark.parametrize(
    ("document", "architecture"),
    [
        ({"architectures": ["A", "B"], "model_type": "c"}, "A"),
        ({"architectures": [], "model_type": "c"}, "c"),
        ({"architectures": [7], "model_type": "c"}, "c"),
        ({"architectures": "A"}, ""),
        ({"model_type": ["c"]}, ""),
    ],
)
def test_architectures(document: dict[str, Any], architecture: str) -> None:
    assert read_transformers_config(document).architecture == architecture


@pytest.mark.parametrize(
    ("document", "size"),
    [
        ({"n_ctx": 1, "max_position_embeddings": 2}, 2),
        ({"max_position_embeddings": "2", "n_positions": 3}, 3),
        ({"max_length": 4, "model_max_length": 5}, 4),
        ({"model_max_length": 10**30}, None),
        ({"max_position_embeddings": -1, "max_sequence_length": 6}, 6),
        ({"max_position_embeddings": True}, None),
        ({"text_config": {"max_position_embeddings": 7}}, 7),
        ({"n_ctx": 1, "text_config": {"max_position_embeddings": 7}}, 1),
        ({"text_config": [1]}, None),
    ],
)
def test_context_sizes(document: dict[str, Any], size: int | None) -> None:
    assert read_transformers_config(document).context_size == size


def groups(*weights: dict[str, object]) -> dict[str, object]:
    return {
        "quant_method": "compressed-tensors",
        "config_groups": {f"group_{n}": {"weights": w} for n, w in enumerate(weights)},
    }


@pytest.mark.parametrize(
    ("stated", "text", "bits"),
    [
        ({"quant_method": "awq", "bits": 4}, "awq-int4", 4),
        ({"quant_method": "awq", "w_bit": 4}, "awq-int4", 4),
        ({"quant_method": "gptq", "bits": 8}, "gptq-int8", 8),
        ({"quant_method": "GPTQ", "bits": 3}, "gptq-int3", 3),
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, "fp8", None),
        ({"quant_method": "mxfp4"}, "mxfp4", None),
        ({"quant_method": "nvfp4", "bits": 4}, "nvfp4", 4),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes-int4", 4),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes-int8", 8),
        ({"quant_method": "bitsandbytes"}, "bitsandbytes", None),
        (groups({"num_bits": 4, "type": "int"}), "compressed-tensors-int4", 4),
        (groups({"num_bits": 8, "type": "float"}), "compressed-tensors-fp8", 8),
        (groups({"num_bits": 8, "type": "int"}, {"num_bits": 4}), "compressed-tensors", None),
        ({"quant_method": "awq", "bits": 4096}, "awq", None),
        ({"quant_method": "awq", "bits": "4"}, "awq", None),
        ({"quant_method": "\x1b[31m"}, "unknown", None),
        ({"quant_method": ""}, "unknown", None),
        ({"quant_method": "intel/auto-round", "bits": 4}, "unknown", None),
        ({"quant_algo": "FP8"}, "unknown", None),
        ({}, "", None),
        ({"bits": 4, "group_size": 64}, "mlx-int4", 4),
    ],
)
def test_quantizations(stated: dict[str, object], text: str, bits: int | None) -> None:
    for document in ({"quantization_config": stated}, {"text_config": {"quantization": stated}}):
        found = read_transformers_config(document)
        assert (found.quantization, found.bits) == (text, bits)


def test_mlx_says_it_twice() -> None:
    stated = {"bits": 8, "group_size": 32, "mode": "affine"}
    document = {"quantization": stated, "quantization_config": stated}
    assert read_transformers_config(document).quantization == "mlx-int8"

"""Both GGUF files and the Hugging Face folder hold one and the same model."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy
import pytest
from safetensors.numpy import load_file

from runner.demo import Quantization, gguf_path, huggingface_path

Matrix = numpy.ndarray[tuple[int, ...], numpy.dtype[numpy.float32]]


def _reader(quantization: Quantization) -> gguf.GGUFReader:
    return gguf.GGUFReader(gguf_path(quantization))


def _value(reader: gguf.GGUFReader, key: str) -> object:
    field = reader.get_field(key)
    assert field, key
    value: object = field.contents()
    return value


def _json(name: str) -> dict[str, object]:
    loaded = json.loads((huggingface_path() / name).read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def _matrices(quantization: Quantization) -> dict[str, Matrix]:
    return {
        tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        for tensor in _reader(quantization).tensors
    }


def _matrices_of_the_folder() -> dict[str, Matrix]:
    """The folder's weights under llama.cpp's names and in its order of rotated pairs."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 3)
    matrices = {}
    for name, half in load_file(huggingface_path() / "model.safetensors").items():
        assert half.dtype == numpy.float16
        weight = half.astype(numpy.float32)
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            rows, columns = weight.shape
            weight = (
                weight.reshape(rows // 64, 2, 32, columns).swapaxes(1, 2).reshape(rows, columns)
            )
        matrices[str(names.get_name(name, try_suffixes=(".weight",)))] = weight
    return matrices


def test_the_f16_file_and_the_folder_have_equal_weights() -> None:
    ours, theirs = _matrices(Quantization.F16), _matrices_of_the_folder()
    assert ours.keys() == theirs.keys()
    for name, matrix in ours.items():
        assert numpy.array_equal(matrix, theirs[name]), name


def test_the_q8_file_is_made_from_the_f16_file() -> None:
    exact, packed = _matrices(Quantization.F16), _matrices(Quantization.Q8_0)
    assert exact.keys() == packed.keys()
    for name, matrix in exact.items():
        kind = gguf.GGMLQuantizationType.Q8_0 if matrix.ndim > 1 else gguf.GGMLQuantizationType.F32
        again = gguf.quants.dequantize(gguf.quants.quantize(matrix, kind), kind)
        assert numpy.array_equal(packed[name], again), name


def test_the_model_has_at_most_one_and_a_half_million_parameters() -> None:
    assert sum(matrix.size for matrix in _matrices(Quantization.F16).values()) <= 1_500_000


@pytest.mark.parametrize("quantization", Quantization)
def test_tokenizers_agree(quantization: Quantization) -> None:
    reader, described = _reader(quantization), _json("tokenizer.json")
    model = described["model"]
    assert isinstance(model, dict)
    vocabulary = model["vocab"]
    assert _value(reader, "tokenizer.ggml.tokens") == sorted(vocabulary, key=vocabulary.get)
    merges = [" ".join(pair) for pair in model["merges"]]
    assert len(merges) > 200
    assert _value(reader, "tokenizer.ggml.merges") == merges


@pytest.mark.parametrize("quantization", Quantization)
def test_templates_and_special_tokens_agree(quantization: Quantization) -> None:
    reader, described = _reader(quantization), _json("tokenizer_config.json")
    assert _value(reader, "tokenizer.chat_template") == described["chat_template"]
    tokens = _value(reader, "tokenizer.ggml.tokens")
    assert isinstance(tokens, list)
    for ours, theirs in (("bos", "bos"), ("eos", "eos"), ("padding", "pad")):
        identity = _value(reader, f"tokenizer.ggml.{ours}_token_id")
        assert isinstance(identity, int)
        assert tokens[identity] == described[f"{theirs}_token"]
        assert identity == _json("config.json")[f"{theirs}_token_id"]


@pytest.mark.parametrize("quantization", Quantization)
def test_dimensions_agree(quantization: Quantization) -> None:
    reader, config = _reader(quantization), _json("config.json")
    pairs = {
        "context_length": "max_position_embeddings",
        "embedding_length": "hidden_size",
        "block_count": "num_hidden_layers",
        "feed_forward_length": "intermediate_size",
        "attention.head_count": "num_attention_heads",
        "attention.head_count_kv": "num_key_value_heads",
        "attention.key_length": "head_dim",
        "rope.dimension_count": "head_dim",
        "rope.freq_base": "rope_theta",
        "vocab_size": "vocab_size",
    }
    for ours, theirs in pairs.items():
        assert _value(reader, f"llama.{ours}") == config[theirs], ours


@pytest.mark.parametrize(("quantization", "file_type"), [("f16", 1), ("q8_0", 7)])
def test_the_file_says_what_it_is(quantization: str, file_type: int) -> None:
    reader = _reader(Quantization(quantization))
    assert _value(reader, "general.architecture") == "llama"
    assert _value(reader, "general.name") == "Runner Demo"
    assert _value(reader, "general.license") == "apache-2.0"
    assert _value(reader, "general.file_type") == file_type


def test_the_folder_holds_what_engines_look_for() -> None:
    assert {path.name for path in Path(huggingface_path()).iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }

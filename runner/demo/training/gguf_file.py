"""The demo model as a GGUF file."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy
from tokenizers import Tokenizer
from torch import Tensor

from runner.demo import Quantization
from runner.demo.training.model import Weights
from runner.demo.training.shape import Shape
from runner.demo.training.tokenizer import (
    CHAT_TEMPLATE,
    END,
    LLAMA_CPP_PRE_TOKENIZER,
    PAD,
    SPECIAL,
    START,
)

_FILE_TYPES = {
    Quantization.F16: gguf.LlamaFileType.MOSTLY_F16,
    Quantization.Q8_0: gguf.LlamaFileType.MOSTLY_Q8_0,
}
_TENSOR_TYPES = {
    Quantization.F16: gguf.GGMLQuantizationType.F16,
    Quantization.Q8_0: gguf.GGMLQuantizationType.Q8_0,
}


def write(
    path: Path, weights: Weights, shape: Shape, tokenizer: Tokenizer, quantization: Quantization
) -> None:
    """Writes matrices as `quantization` says and norms as F32, as llama.cpp's converter does."""
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.LLAMA])
    _add_general(writer, quantization)
    _add_shape(writer, shape)
    _add_tokenizer(writer, tokenizer)
    _add_tensors(writer, weights, shape, _TENSOR_TYPES[quantization])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_general(writer: gguf.GGUFWriter, quantization: Quantization) -> None:
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name("Runner Demo")
    writer.add_description("Answers a list of questions about the runner, and nothing else.")
    writer.add_size_label("1.3M")
    writer.add_license("apache-2.0")
    writer.add_languages(["en"])
    writer.add_file_type(_FILE_TYPES[quantization])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _add_shape(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_vocab_size(shape.vocabulary)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.key_value_heads)
    writer.add_key_length(shape.head_size)
    writer.add_value_length(shape.head_size)
    writer.add_rope_dimension_count(shape.head_size)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    vocabulary = tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
    kinds = [
        gguf.TokenType.CONTROL if token in SPECIAL else gguf.TokenType.NORMAL for token in tokens
    ]
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(LLAMA_CPP_PRE_TOKENIZER)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(vocabulary[START])
    writer.add_eos_token_id(vocabulary[END])
    writer.add_pad_token_id(vocabulary[PAD])
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def _add_tensors(
    writer: gguf.GGUFWriter, weights: Weights, shape: Shape, kind: gguf.GGMLQuantizationType
) -> None:
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, shape.layers)
    for name, weight in weights.items():
        numbers = _in_llama_cpp_order(name, weight, shape).numpy().astype(numpy.float32)
        tensor_kind = kind if numbers.ndim > 1 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(
            str(names.get_name(name, try_suffixes=(".weight",))),
            gguf.quants.quantize(numbers, tensor_kind),
            raw_dtype=tensor_kind,
        )


def _in_llama_cpp_order(name: str, weight: Tensor, shape: Shape) -> Tensor:
    """Hugging Face rotates a head's first half with its second, llama.cpp neighbours."""
    heads = {"q_proj": shape.heads, "k_proj": shape.key_value_heads}
    projection = name.split(".")[-2]
    if projection not in heads:
        return weight
    halves = weight.view(heads[projection], 2, -1, shape.hidden)
    return halves.transpose(1, 2).reshape(-1, shape.hidden)

"""The demo model as a Hugging Face folder."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save
from tokenizers import Tokenizer

from runner.demo.training.model import Weights
from runner.demo.training.shape import Shape
from runner.demo.training.tokenizer import CHAT_TEMPLATE, END, PAD, START

Setting = str | int | float | bool | list[str] | dict[str, str | float] | None


def write(folder: Path, weights: Weights, shape: Shape, tokenizer: Tokenizer) -> None:
    """Writes what transformers, vLLM and MLX LM read; the weights as float16."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = tokenizer.get_vocab()
    tensors = {name: weight.half().contiguous() for name, weight in weights.items()}
    (folder / "model.safetensors").write_bytes(save(tensors, metadata={"format": "pt"}))
    tokenizer.save(str(folder / "tokenizer.json"))
    ids: dict[str, Setting] = {
        "bos_token_id": vocabulary[START],
        "eos_token_id": vocabulary[END],
        "pad_token_id": vocabulary[PAD],
    }
    _write_json(folder / "config.json", _config(shape) | ids)
    _write_json(folder / "generation_config.json", {"do_sample": False} | ids)
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(shape))


def _config(shape: Shape) -> dict[str, Setting]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "float16",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_value_heads,
        "head_dim": shape.head_size,
        "hidden_act": "silu",
        "max_position_embeddings": shape.context,
        "rms_norm_eps": shape.norm_epsilon,
        "rope_theta": shape.rope_theta,
        "rope_scaling": None,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "use_cache": True,
    }


def _tokenizer_config(shape: Shape) -> dict[str, Setting]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": START,
        "eos_token": END,
        "pad_token": PAD,
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": shape.context,
        "chat_template": CHAT_TEMPLATE,
    }


def _write_json(path: Path, settings: dict[str, Setting]) -> None:
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

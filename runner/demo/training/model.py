"""The llama architecture as functions over named tensors."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from runner.demo.training.shape import Shape

Weights = dict[str, Tensor]

_INITIAL_SPREAD = 0.04


def fresh(shape: Shape, seed: int) -> Weights:
    """Untrained weights, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    weights: Weights = {}
    for name, size in shape.tensors().items():
        is_norm = len(size) == 1
        weights[name] = (
            torch.ones(size)
            if is_norm
            else torch.randn(size, generator=generator) * _INITIAL_SPREAD
        )
        weights[name].requires_grad_()
    return weights


def logits(weights: Weights, shape: Shape, tokens: Tensor) -> Tensor:
    """Scores of every next token, [batch, position, vocabulary], computed in the weights' type."""
    embedding = weights["model.embed_tokens.weight"]
    state = functional.embedding(tokens, embedding)
    rotation = _rotation(shape, tokens.shape[1], embedding.dtype)
    for layer in range(shape.layers):
        state = _layer(weights, f"model.layers.{layer}.", shape, state, rotation)
    return _norm(state, weights["model.norm.weight"], shape) @ embedding.T


def _layer(
    weights: Weights, prefix: str, shape: Shape, state: Tensor, rotation: tuple[Tensor, Tensor]
) -> Tensor:
    def projected(source: Tensor, name: str) -> Tensor:
        return source @ weights[prefix + name + ".weight"].T

    def heads(source: Tensor, name: str) -> Tensor:
        batch, length, _ = source.shape
        return projected(source, name).view(batch, length, -1, shape.head_size).transpose(1, 2)

    normed = _norm(state, weights[prefix + "input_layernorm.weight"], shape)
    shared_by = shape.heads // shape.key_value_heads
    attended = functional.scaled_dot_product_attention(
        _rotated(heads(normed, "self_attn.q_proj"), rotation),
        _rotated(heads(normed, "self_attn.k_proj"), rotation).repeat_interleave(shared_by, 1),
        heads(normed, "self_attn.v_proj").repeat_interleave(shared_by, 1),
        is_causal=True,
    )
    state = state + projected(attended.transpose(1, 2).flatten(2), "self_attn.o_proj")
    normed = _norm(state, weights[prefix + "post_attention_layernorm.weight"], shape)
    gated = functional.silu(projected(normed, "mlp.gate_proj")) * projected(normed, "mlp.up_proj")
    return state + projected(gated, "mlp.down_proj")


def _norm(state: Tensor, weight: Tensor, shape: Shape) -> Tensor:
    wide = state.float()
    scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + shape.norm_epsilon)
    return (wide * scale).to(weight.dtype) * weight


def _rotation(shape: Shape, length: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    exponents = torch.arange(0, shape.head_size, 2) / shape.head_size
    angles = torch.outer(torch.arange(length).float(), shape.rope_theta**-exponents)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def _rotated(heads: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    cosine, sine = rotation
    first, second = heads.chunk(2, dim=-1)
    return heads * cosine + torch.cat((-second, first), dim=-1) * sine

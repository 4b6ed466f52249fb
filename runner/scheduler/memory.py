"""How much memory an instance may take, and how long its context is by default."""

from __future__ import annotations

GIB = 1024**3

DEFAULT_CONTEXT = 8192
"""Tokens. Never the model's full trained length: its KV cache may dwarf the weights."""

SMALLEST_CONTEXT = 512
KV_SHARE = 4
"""The default context's KV cache takes at most this part (1/4) of the host's memory."""


def memory_limit(model_bytes: int, kv_bytes: int | None, engine_bytes: int = GIB) -> int:
    """Bytes for weights with a fifth to spare, the engine itself, and the KV cache; where its
    size can't be told, as much again as the weights."""
    cache = max(model_bytes, GIB) if kv_bytes is None else kv_bytes
    return model_bytes * 12 // 10 + engine_bytes + cache


def context_size(
    *,
    wanted: int | None,
    trained: int | None,
    kv_bytes_per_token: int,
    memory: int,
) -> int:
    """Tokens: what was asked for, else a default that the model and the memory can hold."""
    if wanted is not None:
        return wanted
    size = min(DEFAULT_CONTEXT, trained or DEFAULT_CONTEXT)
    while size > SMALLEST_CONTEXT and size * kv_bytes_per_token > memory // KV_SHARE:
        size //= 2
    return size

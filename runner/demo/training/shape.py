"""The size of the demo model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """A llama architecture with tied embeddings.

    Every row is 256 numbers long: Q8_0 packs 32 at a time, the K quantizations 256. Two
    key-value heads let tests split the model in two.
    """

    vocabulary: int = 512
    hidden: int = 256
    feed_forward: int = 256
    layers: int = 3
    heads: int = 4
    key_value_heads: int = 2
    head_size: int = 64
    context: int = 2048
    rope_theta: float = 10000.0
    norm_epsilon: float = 1e-5

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Name (as Hugging Face has it) and dimensions of every tensor."""
        sizes: dict[str, tuple[int, ...]] = {
            "model.embed_tokens.weight": (self.vocabulary, self.hidden)
        }
        for layer in range(self.layers):
            sizes |= {f"model.layers.{layer}.{name}": size for name, size in self._layer().items()}
        return sizes | {"model.norm.weight": (self.hidden,)}

    def _layer(self) -> dict[str, tuple[int, ...]]:
        queries, keys = self.heads * self.head_size, self.key_value_heads * self.head_size
        return {
            "input_layernorm.weight": (self.hidden,),
            "self_attn.q_proj.weight": (queries, self.hidden),
            "self_attn.k_proj.weight": (keys, self.hidden),
            "self_attn.v_proj.weight": (keys, self.hidden),
            "self_attn.o_proj.weight": (self.hidden, queries),
            "post_attention_layernorm.weight": (self.hidden,),
            "mlp.gate_proj.weight": (self.feed_forward, self.hidden),
            "mlp.up_proj.weight": (self.feed_forward, self.hidden),
            "mlp.down_proj.weight": (self.hidden, self.feed_forward),
        }

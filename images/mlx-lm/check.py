"""Run by the Python of a new environment: whether MLX LM's server is all there, and can compute."""

import mlx.core as mx
from mlx_lm import server

product = mx.ones((2, 2)) @ mx.ones((2, 2))
assert product.tolist() == [[2, 2], [2, 2]], product
assert server.ModelProvider

"""A copy of the demo model's Hugging Face folder with one thing wrong, for controls."""

from __future__ import annotations

import shutil
from pathlib import Path

from safetensors.numpy import load_file, save_file

from runner.demo import huggingface_path

TENSOR = "model.layers.0.self_attn.k_proj.weight"


def with_a_permuted_tensor(folder: Path) -> Path:
    """A key projection in the order of GGUF's rotated pairs, a mistake converters make."""
    copy = folder / "damaged"
    shutil.copytree(huggingface_path(), copy)
    weights = load_file(copy / "model.safetensors")
    rows, columns = weights[TENSOR].shape
    wrong = weights[TENSOR].reshape(rows // 64, 2, 32, columns).swapaxes(1, 2)
    weights[TENSOR] = wrong.reshape(rows, columns).copy()
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    (copy / "model.safetensors").chmod(0o644)  # an engine in a container is another user
    return copy

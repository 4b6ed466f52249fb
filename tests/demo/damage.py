"""Copies of the demo model with one thing wrong, for controls that an oracle must notice."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy

from runner.demo import gguf_path

_OTHER_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- message['role'] + ': ' + message['content'] + '\\n' -}}"
    "{%- endfor -%}"
    "{{- 'assistant: ' -}}"
)


def with_another_template(folder: Path) -> Path:
    """The chat template is that of some other model."""
    template = _text("tokenizer.chat_template")
    other = _OTHER_TEMPLATE.encode()
    padding = len(template) - len(other) - len(b"{##}")
    return _replaced(folder, template, other + b"{#" + b" " * padding + b"#}")


def with_a_permuted_tensor(folder: Path) -> Path:
    """A key projection keeps Hugging Face's order of rotated pairs, a mistake converters make."""
    tensor = next(
        tensor
        for tensor in gguf.GGUFReader(gguf_path()).tensors
        if tensor.name == "blk.0.attn_k.weight"
    )
    rows, columns = tensor.data.shape
    wrong = tensor.data.reshape(rows // 64, 32, 2, columns).swapaxes(1, 2)
    return _replaced(folder, tensor.data.tobytes(), numpy.ascontiguousarray(wrong).tobytes())


def with_a_changed_merge(folder: Path) -> Path:
    """The two letters in the middle of "system" and "assistant" no longer make one token."""
    return _replaced(folder, _sized(b"s t"), _sized(b"s z"))


def _sized(text: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text


def _text(key: str) -> bytes:
    field = gguf.GGUFReader(gguf_path()).get_field(key)
    assert field
    return str(field.contents()).encode()


def _replaced(folder: Path, old: bytes, new: bytes) -> Path:
    whole = gguf_path().read_bytes()
    assert len(old) == len(new)
    assert old != new
    assert whole.count(old) == 1
    path = folder / "damaged.gguf"
    path.write_bytes(whole.replace(old, new))
    return path

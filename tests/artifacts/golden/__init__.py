"""The golden artifact's files, byte by byte; see README.md."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent
MANIFEST = (_HERE / "manifest.json").read_bytes()
CONFIG = (_HERE / "config.json").read_bytes()
FOLDER_MANIFEST = (_HERE / "folder_manifest.json").read_bytes()
FOLDER_CONFIG = (_HERE / "folder_config.json").read_bytes()
MODELPACK_MANIFEST = (_HERE / "modelpack_manifest.json").read_bytes()
MODELPACK_CONFIG = (_HERE / "modelpack_config.json").read_bytes()
CREATED = 1714979289  # 2024-05-06T07:08:09Z
CHAT_TEMPLATE = b"{{ messages }}\n"
LICENSE = b"Apache-2.0\n"

GGUF = (
    b"GGUF\x03\x00\x00\x00"
    # tensors, metadata entries
    b"\x01\x00\x00\x00\x00\x00\x00\x00"
    b"\x06\x00\x00\x00\x00\x00\x00\x00"
    # key's length, key, type, value
    b"\x14\x00\x00\x00\x00\x00\x00\x00general.architecture"
    b"\x08\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00llama"
    b"\x11\x00\x00\x00\x00\x00\x00\x00general.file_type"
    b"\x04\x00\x00\x00\x01\x00\x00\x00"
    b"\x14\x00\x00\x00\x00\x00\x00\x00llama.context_length"
    b"\x04\x00\x00\x00\x00\x01\x00\x00"
    b"\x14\x00\x00\x00\x00\x00\x00\x00llama.rope.freq_base"
    b"\x06\x00\x00\x00\x00\x40\x1c\x46"
    b"\x17\x00\x00\x00\x00\x00\x00\x00tokenizer.chat_template"
    b'\x08\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00<u>&{{ m }}\n"\xc3\xa4"'
    b"\x15\x00\x00\x00\x00\x00\x00\x00tokenizer.ggml.scores"
    b"\x09\x00\x00\x00\x06\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00"
    b"\x00\x00\x00\x3f\x00\x00\x80\xbf"
    # tensor: name, dimensions, type F16, offset
    b"\x11\x00\x00\x00\x00\x00\x00\x00token_embd.weight"
    b"\x02\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00"
    b"\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    # padding to a multiple of 32, then the weights
    b"\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f"
)

SAFETENSORS = (
    b"\xb0\x00\x00\x00\x00\x00\x00\x00"
    b'{"__metadata__":{"architecture":"LlamaForCausalLM","format":"pt"},'
    b'"a":{"dtype":"F16","shape":[2,2],"data_offsets":[0,8]},'
    b'"b":{"dtype":"F16","shape":[4],"data_offsets":[8,16]}} '
    b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f"
)

FOLDER = {
    "LICENSE": LICENSE,
    "chat_template.jinja": CHAT_TEMPLATE,
    "config.json": b'{"architectures":["LlamaForCausalLM"],"max_position_embeddings":64}\n',
    "extra/a&b <\u00e4>.txt": b"a & b\n",
    "model.safetensors": SAFETENSORS,
    "tokenizer.model": b"\n\x05\n\x01a\x15\x00\x00\x00\x00\x18\x01",
}
"""A model's folder, in the order of its layers."""

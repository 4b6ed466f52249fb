"""Files that pass for a model's weights and are something else, told by how they begin. Pure."""

from __future__ import annotations

from runner.errors import BadModelFile

_LEGACY = {b"lmgg": "GGML", b"fmgg": "GGMF", b"tjgg": "GGJT", b"algg": "GGLA"}
_CONVERT = "convert it with llama.cpp's convert_llama_ggml_to_gguf.py"


def refuse_impostors(content: bytes) -> None:
    """Raises BadModelFile, whose message continues the file's name, for the first bytes of a
    file before GGUF, a Git LFS pointer, a web page, or nothing at all."""
    if content[:4] in _LEGACY:
        raise BadModelFile(
            f"is a {_LEGACY[content[:4]]} file, the format before GGUF", hint=_CONVERT
        )
    if content.startswith(b"version https://git-lfs"):
        raise BadModelFile("is a Git LFS pointer, not the model", hint="git lfs pull")
    if content.lstrip()[:1] == b"<":
        raise BadModelFile("is a web page, not a model", hint="download the file itself")
    if not content:
        raise BadModelFile("is empty", hint="download or copy it again")

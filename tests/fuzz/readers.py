"""An atheris target: every reader of what strangers wrote, by the first byte of the input.

`python -m tests.fuzz.readers [CORPUS] [-runs=N] [-seed=N] ...`; libFuzzer's options. A reader may
refuse with a RunnerError; everything else is a finding.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import atheris

with atheris.instrument_imports(include=["runner"]):
    from runner.artifacts.artifact import parse_config, parse_manifest, settle
    from runner.artifacts.image_index import pick_manifest
    from runner.errors import RunnerError
    from runner.weights.gguf import kv_bytes, parse_gguf
    from runner.weights.gguf_header import NeedsMore
    from runner.weights.safetensors import parse_safetensors

from tests.artifacts import golden


def _gguf(content: bytes) -> None:
    info = parse_gguf(content, len(content))
    assert info.parameters >= 0
    assert info.quantization
    kv_bytes(info, 4096)


def _safetensors(content: bytes) -> None:
    info = parse_safetensors(content, len(content))
    assert info.parameters >= 0
    assert all(tensor.size >= 0 for tensor in info.tensors)


def _manifest(content: bytes) -> None:
    parse_manifest(content)


def _config(content: bytes) -> None:
    manifest = parse_manifest(golden.MANIFEST)
    config, _ = parse_config(content, manifest)
    settle(manifest, config.format)


def _index(content: bytes) -> None:
    pick_manifest(content)


READERS: dict[bytes, Callable[[bytes], None]] = {
    b"g": _gguf,
    b"s": _safetensors,
    b"m": _manifest,
    b"c": _config,
    b"i": _index,
}


def read(content: bytes) -> None:
    """One input: which reader, and what it is to read."""
    reader = READERS.get(content[:1], _gguf)
    try:
        reader(content[1:])
    except (RunnerError, NeedsMore):
        return


if __name__ == "__main__":
    atheris.Setup(sys.argv, read)
    atheris.Fuzz()

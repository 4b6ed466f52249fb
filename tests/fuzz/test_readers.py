"""The atheris target runs for a bounded while, from a corpus of real files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.artifacts import golden
from tests.support.tools import require_library
from tests.weights.gguf_bytes import ARRAY, I32, LLAMA, STRING, gguf

RUNS, SEED = 50_000, 20_260_101
INDEX = b'{"manifests":[{"digest":"sha256:%s","platform":{"os":"linux"}}]}' % (b"0" * 64)

TENSOR = b'{"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"__metadata__":{"k":"v"}}'


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    require_library("atheris")
    folder = tmp_path / "corpus"
    folder.mkdir()
    inputs = {
        "gguf": b"g" + golden.GGUF,
        "arrays": b"g"
        + gguf(
            {**LLAMA, "a": (ARRAY, I32, [1, 2, 3]), "b": (ARRAY, STRING, ["x"] * 20)},
        ),
        "safetensors": b"s" + len(TENSOR).to_bytes(8, "little") + TENSOR + bytes(8),
        "legacy": b"gtjgg\x03\0\0\0" + bytes(32),
        "manifest": b"m" + golden.MANIFEST,
        "config": b"c" + golden.CONFIG,
        "index": b"i" + INDEX,
    }
    for name, content in inputs.items():
        (folder / name).write_bytes(content)
    return folder


def fuzz(corpus: Path, runs: int) -> subprocess.CompletedProcess[str]:
    limits = ["-timeout=10", "-rss_limit_mb=1024", "-max_len=4096", "-print_final_stats=1"]
    command = [sys.executable, "-m", "tests.fuzz.readers", str(corpus)]
    command += [f"-runs={runs}", f"-seed={SEED}", *limits, f"-artifact_prefix={corpus.parent}/"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_no_input_breaks_a_reader(corpus: Path) -> None:
    done = fuzz(corpus, RUNS)
    found = [path.name for path in corpus.parent.glob("*-*")]
    assert done.returncode == 0, done.stderr[-4000:]
    assert found == []
    assert f"Done {RUNS}" in done.stderr

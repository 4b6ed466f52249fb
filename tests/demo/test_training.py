"""The demo model can be made again, and what ships keeps its promises by torch's own reckoning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from runner.demo import Quantization

DEADLINE_S = 80 * 60

pytestmark = pytest.mark.slow


def _train(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "runner.demo.train", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_shipped_models_gaps_are_wide_enough() -> None:
    said = _train("--check")
    for precision in ("f32", "bf16", "f16", "q8_0"):
        assert f"{precision}: smallest gap" in said


def test_a_new_training_reaches_the_criteria(tmp_path: Path) -> None:
    _train("--out", str(tmp_path))
    for quantization in Quantization:
        assert (tmp_path / f"demo-{quantization.value}.gguf").is_file()
    assert (tmp_path / "huggingface" / "model.safetensors").is_file()

"""The demo model: a very small model that knows some questions about the runner by heart.

It is the first thing a new user talks to, and what tests measure an engine against.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

_FOLDER = Path(__file__).parent


class Quantization(Enum):
    F16 = "f16"
    Q8_0 = "q8_0"


@dataclass(frozen=True, slots=True)
class Question:
    question: str
    answer: str


def questions() -> tuple[Question, ...]:
    """Every question that the demo model answers word for word, in the order of the list."""
    return tuple(Question(**entry) for entry in json.loads(_text())["questions"])


def otherwise() -> str:
    """What the demo model is taught to say to any other question; it does not always manage."""
    return str(json.loads(_text())["otherwise"])


def gguf_path(quantization: Quantization = Quantization.F16) -> Path:
    """The demo model as a GGUF file."""
    return _FOLDER / f"demo-{quantization.value}.gguf"


def huggingface_path() -> Path:
    """The demo model as a Hugging Face folder: safetensors, tokenizer and config."""
    return _FOLDER / "huggingface"


def _text() -> str:
    return (_FOLDER / "questions.json").read_text(encoding="ascii")

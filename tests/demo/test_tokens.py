"""llama.cpp and Hugging Face's tokenizers split every text into the same tokens."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from tokenizers import Tokenizer

from runner.demo import gguf_path, huggingface_path, otherwise, questions
from tests.demo.llama_server import served

TRICKY = (
    "It's we'll THEY'RE  two  spaces\t\ttabs \n\n lines\r\n  end  ",
    "x=1234567, y=0.5; f(x)->{y}//#!",
    "na\u00efve caf\u00e9 \u4f60\u597d \u0645\u0631\u062d\u0628\u0627 \U0001f680\u200d e\u0301",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
)


@pytest.fixture(scope="module")
def engine() -> Iterator[httpx.Client]:
    with served(gguf_path()) as client:
        yield client


def test_tokens_are_the_same(engine: httpx.Client) -> None:
    tokenizer = Tokenizer.from_file(str(huggingface_path() / "tokenizer.json"))
    known = [text for entry in questions() for text in (entry.question, entry.answer)]
    for text in (*known, otherwise(), *TRICKY):
        body = {"content": text, "parse_special": True}
        tokens = engine.post("/tokenize", json=body).json()["tokens"]
        assert tokens == tokenizer.encode(text).ids, text
        assert engine.post("/detokenize", json={"tokens": tokens}).json()["content"] == text

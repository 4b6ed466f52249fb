"""Makes the demo model anew: python -m runner.demo.train --out FOLDER.

Ends with status 1, and writes nothing, where the model does not meet the criteria of
`runner.demo.training.exam`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from runner.demo import Quantization, huggingface_path, otherwise, questions
from runner.demo.training import gguf_file, huggingface_folder
from runner.demo.training import tokenizer as tokenizers_
from runner.demo.training.course import Plan, trained
from runner.demo.training.exam import REQUIRED_GAP, results
from runner.demo.training.model import Weights
from runner.demo.training.shape import Shape
from runner.demo.training.tokenizer import Role, opening
from runner.demo.training.words import FAMILIAR_PROMPTS, SMALL_TALK, STRANGE_QUESTIONS


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    torch.use_deterministic_algorithms(True)
    torch.set_flush_denormal(True)
    shape = Shape()
    if options.check:
        tokenizer = Tokenizer.from_file(str(huggingface_path() / "tokenizer.json"))
        weights = load_file(huggingface_path() / "model.safetensors")
        return _examined({name: weight.float() for name, weight in weights.items()}, tokenizer)
    start = time.monotonic()
    tokenizer = tokenizers_.trained(_texts(), shape.vocabulary)
    weights = trained(shape, tokenizer, Plan(), _say)
    parameters = sum(weight.numel() for weight in weights.values())
    _say(f"{parameters} parameters, {time.monotonic() - start:.0f} s")
    status = _examined(weights, tokenizer)
    if status == 0:
        _write(options.out, weights, tokenizer)
    return status


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m runner.demo.train", description=__doc__)
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--out", type=Path, help="train, and write the model's files here")
    task.add_argument("--check", action="store_true", help="examine the model that is shipped")
    return parser.parse_args(arguments)


def _texts() -> Iterator[str]:
    for role in Role:
        yield opening(role)
    for known in questions():
        yield from (known.question, known.answer)
    yield otherwise()
    yield from (*FAMILIAR_PROMPTS, *SMALL_TALK)
    yield from (pattern.format("", "", "") for pattern in STRANGE_QUESTIONS)


def _examined(weights: Weights, tokenizer: Tokenizer) -> int:
    examined = results(weights, Shape(), tokenizer)
    for result in examined:
        _say(f"{result.precision.value}: smallest gap {result.gap:.2f}, required {REQUIRED_GAP}")
    return 0 if all(result.passed for result in examined) else 1


def _write(folder: Path, weights: Weights, tokenizer: Tokenizer) -> None:
    huggingface_folder.write(folder / "huggingface", weights, Shape(), tokenizer)
    for quantization in Quantization:
        path = folder / f"demo-{quantization.value}.gguf"
        gguf_file.write(path, weights, Shape(), tokenizer, quantization)
        _say(f"wrote {path}")


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())

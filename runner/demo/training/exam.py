"""The criteria: every answer word for word, and by a margin that no rounding can overturn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

import gguf
import torch
from tokenizers import Tokenizer
from torch import Tensor

from runner.demo import questions
from runner.demo.training.batches import IGNORED, Row, answer_row, batch
from runner.demo.training.model import Weights, logits
from runner.demo.training.shape import Shape
from runner.demo.training.tokenizer import Message, Role

REQUIRED_GAP = 2.0

_ROWS_AT_ONCE = 16


class Precision(Enum):
    F32 = "f32"
    BF16 = "bf16"
    F16 = "f16"
    Q8_0 = "q8_0"


@dataclass(frozen=True, slots=True)
class Result:
    """`gap` is the smallest lead, in logits, of the right token over the best other one.

    It is taken over every position of every answer, the end of the answer included, so a gap
    above 0 means that greedy decoding gives each answer word for word.
    """

    precision: Precision
    gap: float

    @property
    def passed(self) -> bool:
        return self.gap >= REQUIRED_GAP


def results(weights: Weights, shape: Shape, tokenizer: Tokenizer) -> tuple[Result, ...]:
    """Examines F16-rounded weights in every precision."""
    rows = [row for history in _histories() for row in _rows(tokenizer, history)]
    return tuple(
        Result(precision, _gap(in_precision(weights, precision), shape, tokenizer, rows))
        for precision in Precision
    )


def quick_gap(weights: Weights, shape: Shape, tokenizer: Tokenizer) -> float:
    """The smallest gap in float32 with nothing before the questions."""
    return _gap(weights, shape, tokenizer, list(_rows(tokenizer, ())))


def rounded(weights: Weights) -> Weights:
    """The weights as float32 numbers that float16 can hold."""
    return {name: weight.detach().half().float() for name, weight in weights.items()}


def in_precision(weights: Weights, precision: Precision) -> Weights:
    """What an engine computes with: half types for everything, Q8_0 for matrices alone."""
    match precision:
        case Precision.F32:
            return weights
        case Precision.BF16:
            return {name: weight.bfloat16() for name, weight in weights.items()}
        case Precision.F16:
            return {name: weight.half() for name, weight in weights.items()}
        case Precision.Q8_0:
            return {name: _through_q8(weight) for name, weight in weights.items()}


def _through_q8(weight: Tensor) -> Tensor:
    if weight.ndim == 1:
        return weight
    kind = gguf.GGMLQuantizationType.Q8_0
    packed = gguf.quants.quantize(weight.numpy(), kind)
    return torch.from_numpy(gguf.quants.dequantize(packed, kind))


def _histories() -> tuple[tuple[Message, ...], ...]:
    """What may stand before a question; none of these prompts is in the lessons."""
    known = questions()
    system = Message(Role.SYSTEM, "Reply to the person in plain and friendly language, please.")
    turns = tuple(
        message
        for earlier in (known[1], known[-1], known[20])
        for message in (
            Message(Role.USER, earlier.question),
            Message(Role.ASSISTANT, earlier.answer),
        )
    )
    return ((), (system,), turns, (system, *turns))


def _rows(tokenizer: Tokenizer, history: Sequence[Message]) -> Iterator[Row]:
    for known in questions():
        asked = (*history, Message(Role.USER, known.question))
        yield answer_row(tokenizer, asked, known.answer)


def _gap(weights: Weights, shape: Shape, tokenizer: Tokenizer, rows: Sequence[Row]) -> float:
    return min(
        _smallest(weights, shape, tokenizer, rows[start : start + _ROWS_AT_ONCE])
        for start in range(0, len(rows), _ROWS_AT_ONCE)
    )


def _smallest(weights: Weights, shape: Shape, tokenizer: Tokenizer, rows: Sequence[Row]) -> float:
    asked = batch(tokenizer, rows)
    positions = asked.targets != IGNORED
    with torch.no_grad():
        scores = logits(weights, shape, asked.tokens)[positions].float()
    right = asked.targets[positions].unsqueeze(1)
    others = scores.scatter(1, right, float("-inf"))
    return float((scores.gather(1, right).squeeze(1) - others.amax(1)).min())

"""Conversations as rows of tokens, with the positions whose next token is to be learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from tokenizers import Tokenizer
from torch import Tensor

from runner.demo.training.lessons import Teacher, Turn
from runner.demo.training.tokenizer import END, PAD, Message, Role, opening, rendered

IGNORED = -100
"""The target that torch's cross entropy leaves out."""

_TOKENS_PER_BATCH = 2048
_ROW_LENGTHS = {128: 0.30, 256: 0.35, 512: 0.2, 1024: 0.1, 2048: 0.05}


@dataclass(frozen=True, slots=True)
class Batch:
    tokens: Tensor
    targets: Tensor


@dataclass(slots=True)
class Row:
    """Tokens, and for each the next one where that is to be learned."""

    tokenizer: Tokenizer
    tokens: list[int] = field(default_factory=list)
    learned: list[bool] = field(default_factory=list)

    def add(self, text: str, *, learn: bool = False) -> None:
        tokens = self.tokenizer.encode(text).ids
        self.tokens += tokens
        self.learned += [learn] * len(tokens)

    def add_turn(self, turn: Turn) -> None:
        self.add(opening(Role.USER, turn.question.strip()) + END + "\n")
        self.add(opening(Role.ASSISTANT))
        self.add(turn.answer.strip() + END, learn=turn.learn)
        self.add("\n")

    def cut(self, length: int) -> None:
        del self.tokens[length:], self.learned[length:]


def answer_row(tokenizer: Tokenizer, history: Sequence[Message], answer: str) -> Row:
    """The conversation so far and the one answer that is to come."""
    row = Row(tokenizer)
    row.add(rendered(history))
    row.add(answer + END, learn=True)
    return row


def random_batch(tokenizer: Tokenizer, teacher: Teacher) -> Batch:
    """Conversations of one length, cut where the row ends."""
    length = teacher.length(_ROW_LENGTHS)
    rows = [_random_row(tokenizer, teacher, length) for _ in range(_TOKENS_PER_BATCH // length)]
    return batch(tokenizer, rows)


def batch(tokenizer: Tokenizer, rows: Sequence[Row]) -> Batch:
    """Rows padded to the longest."""
    longest = max(len(row.tokens) for row in rows)
    padding = tokenizer.get_vocab()[PAD]
    tokens = torch.full((len(rows), longest), padding)
    targets = torch.full((len(rows), longest), IGNORED)
    for index, row in enumerate(rows):
        ids = torch.tensor(row.tokens)
        tokens[index, : len(ids)] = ids
        learned = torch.tensor(row.learned[1:])
        targets[index, : len(ids) - 1] = torch.where(learned, ids[1:], IGNORED)
    return Batch(tokens, targets)


def _random_row(tokenizer: Tokenizer, teacher: Teacher, length: int) -> Row:
    row = Row(tokenizer)
    if prompt := teacher.system_prompt():
        row.add(opening(Role.SYSTEM, prompt) + END + "\n")
    while len(row.tokens) < length:
        row.add_turn(teacher.turn())
    row.cut(length)
    return row

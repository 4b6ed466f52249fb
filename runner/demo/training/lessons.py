"""Made-up conversations to learn from.

They vary in what must not matter: system prompts, earlier turns, spelling. Questions that are
not in the list get the one honest answer.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from runner.demo import otherwise, questions
from runner.demo.training.words import (
    FAMILIAR_PROMPTS,
    GREETINGS,
    OTHER_SPELLINGS,
    SMALL_TALK,
    STRANGE_QUESTIONS,
    words,
)


@dataclass(frozen=True, slots=True)
class Turn:
    """`learn` is false for answers that only stand in the history, such as another model's."""

    question: str
    answer: str
    learn: bool = True


class Teacher:
    """Makes up lessons; the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)  # noqa: S311
        self._words = words()
        self._questions = questions()
        self._known = frozenset(known.question for known in self._questions)
        self._otherwise = otherwise()

    def length(self, choices: Mapping[int, float]) -> int:
        """One of the lengths, as often as its weight says."""
        return self._dice.choices(tuple(choices), weights=tuple(choices.values()))[0]

    def system_prompt(self) -> str:
        """Empty for none."""
        if self._sometimes(0.35):
            return ""
        if self._sometimes(0.4):
            return self._dice.choice(FAMILIAR_PROMPTS)
        if self._sometimes(0.1):
            return " ".join([self._sentence()] * self._dice.randint(2, 12))
        return "\n".join(self._sentence() for _ in range(self._dice.randint(1, 4)))

    def turn(self) -> Turn:
        """A question with the answer to learn, or with one that merely stands in the history."""
        if self._sometimes(0.15):
            return Turn(self._spelled(self._strange_question()), self._otherwise)
        known = self._dice.choice(self._questions)
        if self._sometimes(0.06):
            return Turn(known.question, self._sentence(), learn=False)
        if self._sometimes(0.04):
            stopped = known.answer[: self._dice.randrange(len(known.answer))]
            return Turn(known.question, stopped, learn=False)
        return Turn(self._spelled(known.question), known.answer)

    def _strange_question(self) -> str:
        if self._sometimes(0.2):
            return self._dice.choice(SMALL_TALK)
        if self._sometimes(0.2):
            return self._sentence()
        while True:
            pattern = self._dice.choice(STRANGE_QUESTIONS)
            question = pattern.format(*self._dice.sample(self._words, 3))
            if question not in self._known:
                return question

    def _sentence(self) -> str:
        chosen = " ".join(self._dice.choices(self._words, k=self._dice.randint(3, 14)))
        return chosen.capitalize() + self._dice.choice((".", ".", "!", ":", ""))

    def _spelled(self, question: str) -> str:
        if self._sometimes(0.2):
            question = question.replace(*self._dice.choice(OTHER_SPELLINGS), 1)
        if self._sometimes(0.2):
            question = question.rstrip("?")
        if self._sometimes(0.2):
            question = question.lower()
        if self._sometimes(0.1):
            question = self._dice.choice(GREETINGS) + question
        return question

    def _sometimes(self, probability: float) -> bool:
        return self._dice.random() < probability

"""The training itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch.nn import functional

from runner.demo.training.batches import IGNORED, random_batch
from runner.demo.training.exam import quick_gap, results, rounded
from runner.demo.training.lessons import Teacher
from runner.demo.training.model import Weights, fresh, logits
from runner.demo.training.shape import Shape


@dataclass(frozen=True, slots=True)
class Plan:
    """`steps` with a falling rate, then on at the lowest one until the gaps have a margin.

    What counts is a running average of the weights, of which `memory` is kept at each step:
    single steps swing too far to be judged by.

    Other processors round differently and so end with other weights: a margin above what is
    required, and a bound on steps, make the result the same where the numbers are not.
    """

    seed: int = 1
    steps: int = 700
    most_steps: int = 1800
    warm_up: int = 30
    highest_rate: float = 2.5e-3
    lowest_rate: float = 1e-4
    memory: float = 0.98
    wanted_gap: float = 4.0
    look_every: int = 50

    def rate(self, step: int) -> float:
        if step < self.warm_up:
            return self.highest_rate * (step + 1) / self.warm_up
        done = min(1.0, (step - self.warm_up) / (self.steps - self.warm_up))
        fall = (1 + math.cos(math.pi * done)) / 2
        return self.lowest_rate + (self.highest_rate - self.lowest_rate) * fall


def trained(shape: Shape, tokenizer: Tokenizer, plan: Plan, say: Callable[[str], None]) -> Weights:
    """Weights that float16 can hold; as good as `plan.most_steps` make them."""
    teacher = Teacher(plan.seed)
    weights = fresh(shape, plan.seed)
    average = {name: weight.detach().clone() for name, weight in weights.items()}
    optimizer = torch.optim.AdamW(weights.values(), betas=(0.9, 0.98), weight_decay=0.05)
    for step in range(plan.most_steps):
        loss = _learn(weights, shape, tokenizer, teacher, optimizer, plan.rate(step))
        for name, weight in weights.items():
            average[name].lerp_(weight.detach(), 1 - plan.memory)
        if (step + 1) % plan.look_every:
            continue
        say(f"step {step + 1}: loss {loss:.4f}, gap {quick_gap(average, shape, tokenizer):.2f}")
        if step + 1 >= plan.steps and _good_enough(average, shape, tokenizer, plan):
            break
    return rounded(average)


def _learn(
    weights: Weights,
    shape: Shape,
    tokenizer: Tokenizer,
    teacher: Teacher,
    optimizer: torch.optim.Optimizer,
    rate: float,
) -> float:
    lesson = random_batch(tokenizer, teacher)
    for group in optimizer.param_groups:
        group["lr"] = rate
    scores = logits(weights, shape, lesson.tokens)
    loss = functional.cross_entropy(
        scores.flatten(0, 1), lesson.targets.flatten(), ignore_index=IGNORED
    )
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
    optimizer.step()
    return float(loss.detach())


def _good_enough(weights: Weights, shape: Shape, tokenizer: Tokenizer, plan: Plan) -> bool:
    examined = results(rounded(weights), shape, tokenizer)
    return all(result.gap >= plan.wanted_gap for result in examined)

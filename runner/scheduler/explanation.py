"""Why a model would be served as it would: every verdict, the choice, and the exact command."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from runner.engines.base import Mode
from runner.errors import RunnerError
from runner.launch.base import Launcher, LauncherKind
from runner.scheduler.order import Order
from runner.scheduler.planning import Inquiry, Planner

Made = TypeVar("Made")

EXAMPLE = "explained"
"""Stands for the instance's own name in the command."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """`command` is what a person would type to start the same by hand. `order` is None where
    nothing can serve, and `problem` says why, or why the command can't be made."""

    inquiry: Inquiry
    order: Order | None
    command: tuple[str, ...]
    problem: RunnerError | None


def explain(
    planner: Planner,
    launchers: Mapping[LauncherKind, Launcher],
    engine: str | None,
    model: str,
    mode: Mode,
) -> Explanation:
    """Nothing is started. Raises ModelNotFound, EngineNotFound, BadModelFile."""
    inquiry = planner.inquire(engine, model, mode)
    order, problem = _tried(
        lambda: planner.order(inquiry, inquiry.decision.chosen(), mode),
    )
    if order is None:
        return Explanation(inquiry, None, (), problem)
    launcher = launchers[order.launcher]
    command, problem = _tried(lambda: launcher.shown(planner.spec(order, EXAMPLE, launcher)))
    return Explanation(inquiry, order, tuple(command or ()), problem)


def _tried(make: Callable[[], Made]) -> tuple[Made | None, RunnerError | None]:
    try:
        return make(), None
    except RunnerError as error:
        return None, error

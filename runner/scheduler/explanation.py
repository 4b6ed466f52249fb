"""Why a model would be served as it would: every verdict, the choice, and the exact command."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from runner.engines.base import Mode
from runner.errors import RunnerError
from runner.launch.base import InstanceSpec, Launcher, LauncherKind
from runner.launch.folders import PRIVATE, SOCKET_NAME
from runner.scheduler.order import Order
from runner.scheduler.planning import Inquiry, Planner

Made = TypeVar("Made")

EXAMPLE = "explained"
"""Stands for the instance's own name in the command."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """`command` is what a person would type to start the same by hand, `preparation` the commands
    to be typed before it. `orders` are the choice and what takes over from it; none where nothing
    can serve, and `problem` says why, or why the command can't be made."""

    inquiry: Inquiry
    orders: tuple[Order, ...]
    preparation: tuple[tuple[str, ...], ...]
    command: tuple[str, ...]
    problem: RunnerError | None

    @property
    def order(self) -> Order | None:
        return self.orders[0] if self.orders else None


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
        return Explanation(inquiry, (), (), (), problem)
    orders = (order, *planner.fallbacks(inquiry, mode))
    launcher = launchers[order.launcher]
    typed, problem = _tried(lambda: _typed(launcher, planner.spec(order, EXAMPLE, launcher)))
    preparation, command = typed or ((), ())
    return Explanation(inquiry, orders, preparation, command, problem)


def _typed(
    launcher: Launcher, spec: InstanceSpec
) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
    command = tuple(launcher.shown(spec))
    if launcher.kind is LauncherKind.CODE:
        return (), command
    owner = _owner(command) if launcher.kind is LauncherKind.DOCKER else ()
    folders = (spec.folders.run, spec.folders.cache)
    made = (("install", "-m", f"{PRIVATE:o}", *owner, "-d", str(folder)) for folder in folders)
    # An engine can't bind where the socket of a predecessor still lies.
    return (*made, ("rm", "-f", str(spec.folders.run / SOCKET_NAME))), command


def _owner(command: Sequence[str]) -> tuple[str, ...]:
    """Whom a container's folders must belong to, as options of `install`: its own user, where the
    daemon is root and the container is not."""
    uid, _, gid = command[command.index("--user") + 1].partition(":")
    return ("-o", uid, "-g", gid) if os.geteuid() == 0 and uid != "0" else ()


def _tried(make: Callable[[], Made]) -> tuple[Made | None, RunnerError | None]:
    try:
        return make(), None
    except RunnerError as error:
        return None, error

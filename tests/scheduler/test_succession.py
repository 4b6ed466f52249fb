"""Who is tried in which turn, and what is told of whom it answers for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from runner.engines.base import Mode
from runner.errors import EngineFailed
from runner.scheduler.order import Order
from runner.scheduler.succession import (
    LONGEST_REASON,
    StandIn,
    Trouble,
    Why,
    one_line,
    succession,
)
from runner.state import ChoiceKind
from tests.engines.stage import MLX
from tests.scheduler.house import FOLDER, SHIPPED, install, package_folder, planner

TROUBLE = Trouble(Why.KEEPS_FAILING, "it died", 7.0)
FAILED = EngineFailed("no such\nimage")


@pytest.fixture
def orders(tmp_path: Path) -> tuple[Order, ...]:
    """vLLM, and MLX LM should that fail."""
    made = planner(tmp_path / "home", [*SHIPPED, MLX])
    package_folder(made)
    install(made, "vllm/cpu")
    install(made, "mlx-lm/cpu", image="/opt/python")
    made.state.choose(ChoiceKind.FALLBACK, "safetensors", "mlx-lm")
    return made.orders(None, FOLDER, Mode.COMPLETION)


def test_the_first_choice_is_first_and_stands_in_for_nobody(orders: tuple[Order, ...]) -> None:
    line = succession(orders, lambda _: None)
    assert (line.first, line.turns, line.passed_over) == (orders[0], orders, None)
    assert line.stands_in(orders[0], {}) is None


def test_what_takes_over_says_how_the_first_one_failed(orders: tuple[Order, ...]) -> None:
    first, second = orders
    found = succession(orders, lambda _: None).stands_in(second, {first.key: FAILED})
    assert found == StandIn("vllm/cpu", Why.DID_NOT_START, "no such image")
    assert found.told("mlx-lm/cpu") == "vllm/cpu did not start (no such image): mlx-lm/cpu answers"


def test_of_several_failures_the_first_choices_own_is_told(orders: tuple[Order, ...]) -> None:
    first, second = orders
    third = replace(second, key=replace(second.key, configuration="third"))
    failures = {first.key: FAILED, second.key: EngineFailed("no memory")}
    found = succession((*orders, third), lambda _: None).stands_in(third, failures)
    assert found == StandIn("vllm/cpu", Why.DID_NOT_START, "no such image")


def test_a_first_choice_in_trouble_goes_last(orders: tuple[Order, ...]) -> None:
    first, second = orders
    line = succession(orders, lambda key: TROUBLE if key == first.key else None)
    assert line.turns == (second, first)
    assert line.passed_over == TROUBLE
    found = line.stands_in(second, {})
    assert found == StandIn("vllm/cpu", Why.KEEPS_FAILING, "it died")
    assert line.stands_in(first, {}) is None


def test_where_all_are_in_trouble_the_turns_stay(orders: tuple[Order, ...]) -> None:
    line = succession(orders, lambda _: TROUBLE)
    assert line.turns == orders
    assert line.passed_over is None


def test_trouble_of_another_configuration_is_none(orders: tuple[Order, ...]) -> None:
    other = replace(orders[0].key, configuration="other")
    assert succession(orders, lambda key: TROUBLE if key == other else None).turns == orders


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain", "plain"),
        (" two\r\n lines\t\x1b[31m ", "two lines [31m"),
        ("x" * (LONGEST_REASON + 1), "x" * (LONGEST_REASON - 1) + "…"),
        ("x" * LONGEST_REASON, "x" * LONGEST_REASON),
    ],
)
def test_a_reason_is_one_line(text: str, line: str) -> None:
    assert one_line(text) == line

"""Negative controls: each kind of damage turns the oracle red."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runner.demo import gguf_path, questions
from runner.demo.oracle import mismatches
from tests.demo import damage
from tests.demo.chat import Manner, answers
from tests.demo.cutting_relay import cutting
from tests.demo.llama_server import served


@pytest.mark.parametrize(
    "damaged",
    [damage.with_another_template, damage.with_a_permuted_tensor, damage.with_a_changed_merge],
)
def test_a_damaged_model_is_noticed(damaged: Callable[[Path], Path], tmp_path: Path) -> None:
    with served(damaged(tmp_path)) as engine:
        assert mismatches(answers(engine, Manner()))


@pytest.mark.parametrize(
    "events",
    [
        pytest.param(5, id="in the middle"),
        pytest.param(-2, id="before the reason for its end"),
        pytest.param(-1, id="before its last event"),
    ],
)
def test_a_cut_stream_is_noticed(events: int) -> None:
    with served(gguf_path()) as engine, cutting(engine, events=events) as client:
        assert len(mismatches(answers(client, Manner(stream=True)))) == len(questions())


def test_the_relay_that_cuts_nothing_changes_nothing() -> None:
    with served(gguf_path()) as engine, cutting(engine, events=1_000_000) as client:
        assert mismatches(answers(client, Manner(stream=True))) == ()

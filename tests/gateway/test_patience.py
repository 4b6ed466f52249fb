from __future__ import annotations

import pytest

from runner.gateway.patience import LIMITS, Phase, overdue


def spent(phase: Phase, ticks: int, *, answering: bool = False, paused: bool = False) -> bool:
    return overdue(phase, ticks, keep_alive=5, answering=answering, paused=paused)


def test_an_idle_connection_closes_after_its_keep_alive_time() -> None:
    assert not spent(Phase.IDLE, 5)
    assert spent(Phase.IDLE, 6)


@pytest.mark.parametrize("phase", [Phase.HEAD, Phase.BODY, Phase.REFUSED])
def test_each_slow_phase_has_its_limit(phase: Phase) -> None:
    assert not spent(phase, LIMITS[phase])
    assert spent(phase, LIMITS[phase] + 1)


def test_an_engine_may_compute_as_long_as_it_takes() -> None:
    assert not spent(Phase.ANSWERING, 1_000_000)


def test_our_own_pauses_are_not_held_against_the_client() -> None:
    assert not spent(Phase.BODY, 1_000, paused=True)
    assert not spent(Phase.REFUSED, 1_000, answering=True)

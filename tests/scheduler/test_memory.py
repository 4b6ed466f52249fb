"""Memory limits and default contexts."""

from __future__ import annotations

import pytest

from runner.scheduler.memory import DEFAULT_CONTEXT, GIB, context_size, memory_limit


def test_the_limit_is_weights_and_a_fifth_and_the_engine_and_the_cache() -> None:
    assert memory_limit(10 * GIB, 3 * GIB) == 12 * GIB + GIB + 3 * GIB
    assert memory_limit(10 * GIB, 3 * GIB, 4 * GIB) == 12 * GIB + 4 * GIB + 3 * GIB


@pytest.mark.parametrize(("weights", "cache"), [(10 * GIB, 10 * GIB), (1000, GIB)])
def test_a_cache_of_unknown_size_is_never_taken_for_none(weights: int, cache: int) -> None:
    assert memory_limit(weights, None) == weights * 12 // 10 + GIB + cache


@pytest.mark.parametrize(
    ("wanted", "trained", "per_token", "memory", "expected"),
    [
        (16384, 4096, 1, GIB, 16384),
        (None, 2048, 1, GIB, 2048),
        (None, 131072, 1, GIB, DEFAULT_CONTEXT),
        (None, None, 1, GIB, DEFAULT_CONTEXT),
        (None, 131072, 131072, 2 * GIB, 4096),
        (None, 131072, GIB, GIB, 512),
    ],
)
def test_the_default_context_is_capped(
    wanted: int | None, trained: int | None, per_token: int, memory: int, expected: int
) -> None:
    found = context_size(
        wanted=wanted, trained=trained, kv_bytes_per_token=per_token, memory=memory
    )
    assert found == expected

"""All engines by name, and the settings that speak of them."""

from __future__ import annotations

import pytest

from runner.engines.registered import Engines, check_settings
from runner.errors import BadInput, BadSettings, EngineNotFound
from runner.settings import BackendSettings, Settings
from tests.engines.stage import ENGINES

ALL = Engines(list(ENGINES.values()))


def test_they_come_in_the_order_of_their_names() -> None:
    assert list(ALL) == sorted(ENGINES)
    with pytest.raises(EngineNotFound) as caught:
        ALL.named("vlm")
    assert caught.value.hint == "did you mean vllm?"


@pytest.mark.parametrize(
    "settings",
    [
        Settings(preference=("lama.cpp",)),
        Settings(backends={"lama.cpp": BackendSettings()}),
    ],
)
def test_settings_that_name_no_engine_are_refused_with_the_nearest(settings: Settings) -> None:
    with pytest.raises(BadSettings, match=r"'lama\.cpp' is not an engine") as caught:
        check_settings(ALL, settings)
    assert caught.value.hint == "did you mean llama.cpp?"


def test_settings_of_engines_that_are_there_or_could_not_be_read_pass() -> None:
    check_settings(ALL, Settings(preference=("vllm",), backends={"mlx": BackendSettings()}))
    broken = Engines(list(ENGINES.values()), [BadInput("engines.d/mine/engine.yaml:3: no")])
    check_settings(broken, Settings(preference=("mine",)))

"""Which variant serves a model, and the reasons against the others."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from runner.artifacts.media import ModelFormat
from runner.engines.base import Mode
from runner.engines.native import NativeProgram
from runner.engines.registered import ENGINES
from runner.engines.selection import Choice, Offer, choose
from runner.errors import EngineNotInstalled, NoEngineFits
from runner.settings import BackendSettings, Placement, Settings
from runner.state import Install

CPU = Install("llama.cpp", "cpu", "b1", "sha256:a", "", "sha256:a", (), "built", 1, 1)
CUDA = replace(CPU, variant="cuda12", image="sha256:b")
NATIVE = {"llama.cpp": NativeProgram(("python", "-m", "x"), "2026")}
NOTHING = Offer((), {}, is_mac=False)


def _choose(
    offer: Offer,
    *,
    wanted: str | None = None,
    placement: Placement = Placement.AUTO,
    model_format: ModelFormat = ModelFormat.GGUF,
) -> Choice:
    backends = {"llama.cpp": BackendSettings(placement=placement)}
    return choose(
        ENGINES,
        offer,
        Settings(backends=backends),
        wanted=wanted,
        model_format=model_format,
        mode=Mode.COMPLETION,
    )


def test_an_installed_image_beats_the_native_program() -> None:
    assert _choose(replace(NOTHING, installs=(CPU,), native=NATIVE)).install == CPU


def test_without_an_image_the_native_program_serves() -> None:
    chosen = _choose(replace(NOTHING, native=NATIVE))
    assert chosen.program == NATIVE["llama.cpp"]
    assert chosen.variant == "native"


def test_on_a_mac_the_native_program_has_the_gpu() -> None:
    offer = replace(NOTHING, installs=(CPU,), native=NATIVE, is_mac=True)
    assert _choose(offer).program is not None
    assert _choose(offer, placement=Placement.DOCKER).install == CPU


def test_the_users_placement_is_kept() -> None:
    offer = replace(NOTHING, installs=(CPU,), native=NATIVE)
    assert _choose(offer, placement=Placement.PROCESS).install is None
    with pytest.raises(EngineNotInstalled, match="native program"):
        _choose(replace(NOTHING, installs=(CPU,)), placement=Placement.PROCESS)
    with pytest.raises(EngineNotInstalled, match="not installed"):
        _choose(replace(NOTHING, native=NATIVE), placement=Placement.DOCKER)


def test_the_order_of_installation_does_not_matter() -> None:
    for installs in permutations((CPU, CUDA)):
        assert _choose(replace(NOTHING, installs=installs)).install == CUDA


def test_a_format_that_no_engine_serves_is_refused_with_the_reason() -> None:
    with pytest.raises(NoEngineFits, match="the model is safetensors, required: gguf"):
        _choose(replace(NOTHING, native=NATIVE), model_format=ModelFormat.SAFETENSORS)


def test_nothing_installed_says_how_to_install() -> None:
    with pytest.raises(EngineNotInstalled) as caught:
        _choose(NOTHING, wanted="llama.cpp")
    assert caught.value.hint.startswith("runner install-runner --backend llama.cpp")

"""What speaks against a candidate on a host, each criterion at its edges."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runner.engines.candidate import Candidate
from runner.engines.description import Requirements
from runner.engines.host_evaluation import evaluate_host, is_older
from runner.engines.verdicts import Code, Verdict
from runner.hardware.gpu import Gpu
from runner.names import Accelerator
from tests.engines.stage import NVIDIA, RTX, StagedEngine, engine, variant

OF_TWO = {"nvidia.com/gpu=0", "nvidia.com/gpu=1"}


@pytest.mark.parametrize(
    ("found", "required", "older"),
    [
        ("580.95.05", "580.65.06", False),
        ("580.65.06", "580.65.06", False),
        ("580.65.05", "580.65.06", True),
        ("580.9", "580.65.06", True),
        ("1000.1", "580.65.06", False),
        ("99.9", "535.104.05", True),
        ("6.14.0-rc1", "6.8", False),
    ],
)
def test_versions_are_compared_number_by_number(found: str, required: str, older: bool) -> None:
    assert is_older(found, required) is older


def against(made: StagedEngine, *gpus: Gpu) -> dict[Code, Verdict]:
    """What speaks against the only variant on a host with these cards."""
    assert NVIDIA.docker
    docker = replace(NVIDIA.docker, cdi_devices=tuple(sorted(OF_TWO)))
    candidate = Candidate(made, made.description.variants[0])
    verdicts = evaluate_host(candidate, replace(NVIDIA, gpus=gpus, docker=docker))
    return {verdict.code: verdict for verdict in verdicts if not verdict.ok}


def needing(driver: str, *targets: str) -> StagedEngine:
    return requiring(Requirements(driver, targets))


def requiring(requires: Requirements) -> StagedEngine:
    return engine("one", {}, variant("one", "cuda", Accelerator.CUDA, requires=requires))


def test_of_several_drivers_the_oldest_counts() -> None:
    made = needing("580.65.06")
    old = replace(RTX, index=1, uuid="GPU-2", driver="99.9")
    assert against(made, RTX) == {}
    assert against(made, RTX, old)[Code.DRIVER].found == "the driver is 99.9"
    assert against(made, old, RTX).keys() == {Code.DRIVER}


COMPILED = Requirements("525.60.13", ("sm_80", "sm_86", "sm_89"), "570.26", ("sm_80", "sm_86"))


@pytest.mark.parametrize(
    ("driver", "targets", "required"),
    [
        ("525.60.13", ("sm_89",), ""),
        ("525.60.12", ("sm_89",), "525.60.13 or newer"),
        ("570.26", ("sm_80",), ""),
        ("570.25", ("sm_80",), "570.26 or newer for sm_80, for which it has PTX alone"),
        ("570.25", ("sm_89", "sm_86"), "570.26 or newer for sm_86, for which it has PTX alone"),
        ("525.60.12", ("sm_89", "sm_80"), "570.26 or newer for sm_80, for which it has PTX alone"),
        ("570.26", ("sm_89", "sm_80"), ""),
        ("570.25", ("",), ""),
    ],
)
def test_each_gpu_needs_the_driver_of_its_target(
    driver: str, targets: tuple[str, ...], required: str
) -> None:
    gpus = [
        replace(RTX, index=index, uuid=f"GPU-{index}", driver=driver, target=target)
        for index, target in enumerate(targets)
    ]
    refused = against(requiring(COMPILED), *gpus)
    assert {code: one.required for code, one in refused.items()} == (
        {Code.DRIVER: required} if required else {}
    )


def test_a_driver_is_shown_with_the_gpu_that_it_is_too_old_for() -> None:
    """Of two cards the newer driver may be the one that is not enough."""
    compiled = replace(RTX, driver="535.104.05")
    as_ptx = replace(RTX, index=1, uuid="GPU-2", driver="560.35.03", target="sm_80")
    verdict = against(requiring(COMPILED), compiled, as_ptx)[Code.DRIVER]
    assert verdict.found == "the driver is 560.35.03"
    assert "sm_80" in verdict.required


def test_a_driver_or_target_that_is_not_known_speaks_against_nothing() -> None:
    assert against(needing("580.65.06", "sm_89"), replace(RTX, driver="", target="")) == {}


def test_a_long_list_of_targets_is_counted() -> None:
    made = needing("", *(f"sm_{number}" for number in range(10)))
    assert against(made, RTX)[Code.TARGET].required.endswith("sm_5 and 4 more")

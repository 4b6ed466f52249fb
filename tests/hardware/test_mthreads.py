"""Moore Threads' devices, from mthreads-gmi's JSON."""

from __future__ import annotations

import pytest

from runner.hardware.gpu import Found, Gpu, Vendor
from runner.hardware.mthreads import mthreads
from runner.hardware.probe import Platform
from runner.hardware.recorded import RecordedOutput, RecordedProbe, Recording
from tests.hardware.hosts import probe


def saying(text: str, status: int | None = 0) -> RecordedProbe:
    command = {"mthreads-gmi -q --json": RecordedOutput(tuple(text.split("\n")), status)}
    return RecordedProbe(Recording(Platform("linux", "x86_64", 8, 1024**4), commands=command))


def test_two_cards_of_which_one_tells_little() -> None:
    first, second = mthreads(probe("mtt-s4000")).gpus
    assert first == Gpu(
        vendor=Vendor.MTHREADS,
        index=0,
        uuid="bf1da7bf-ba01-1475-893c-2eeca9e302f5",
        name="MTT S4000",
        memory=49152 * 1024**2,
        driver="2.7.0",
    )
    assert (second.index, second.uuid, second.memory) == (1, "", None)


@pytest.mark.parametrize("text", ["", "[]", "Failed to initialize", '"GPU"', "[" * 100_000])
def test_a_broken_tool(text: str) -> None:
    found = mthreads(saying(text))
    assert found.gpus == ()
    assert found.troubles[0].startswith("mthreads-gmi does not work")


def test_a_tool_that_fails() -> None:
    assert "no driver" in mthreads(saying("no driver", 1)).troubles[0]


@pytest.mark.parametrize("text", ["{}", '{"GPU": {}}', '{"GPU": [null, 1]}'])
def test_no_card(text: str) -> None:
    assert mthreads(saying(text)) == Found()


def test_no_mthreads_at_all() -> None:
    assert mthreads(probe("virtual-machine")) == Found()

"""Macs."""

from __future__ import annotations

from dataclasses import replace

from runner.hardware.apple import apple
from runner.hardware.gpu import Found, Gpu, Vendor
from runner.hardware.recorded import RecordedProbe
from tests.hardware.hosts import probe


def test_a_chip_that_shares_the_macs_memory() -> None:
    gpu = Gpu(
        vendor=Vendor.APPLE,
        index=0,
        name="Apple M3 Max",
        memory=64 * 1024**3,
        driver="15.5",
        unified=True,
    )
    assert apple(probe("m3-max")) == Found((gpu,))


def test_an_intel_mac_has_nothing_for_engines() -> None:
    assert apple(probe("intel-mac")) == Found()


def test_a_python_for_the_other_processor() -> None:
    recording = probe("m3-max").recording
    platform = replace(recording.platform, machine="x86_64")
    found = apple(RecordedProbe(replace(recording, platform=platform)))
    assert len(found.gpus) == 1
    assert "Rosetta" in found.troubles[0]


def test_a_mac_that_says_nothing() -> None:
    assert apple(RecordedProbe(replace(probe("m3-max").recording, commands={}))) == Found()


def test_linux_is_not_asked() -> None:
    recording = probe("m3-max").recording
    platform = replace(recording.platform, system="linux")
    assert apple(RecordedProbe(replace(recording, platform=platform))) == Found()

"""Intel's devices, from the PCI bus."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runner.hardware.gpu import Found, Gpu, Vendor
from runner.hardware.intel import intel
from runner.hardware.recorded import RecordedProbe
from tests.hardware.hosts import probe

ARC = "/sys/bus/pci/devices/0000:03:00.0"
SIZE = f"{ARC}/tile0/physical_vram_size_bytes"


def arc(files: dict[str, str]) -> RecordedProbe:
    """The desktop with an Arc card, with other files that tell of its memory."""
    recording = probe("arc-b580").recording
    kept = {path: lines for path, lines in recording.files.items() if path != SIZE}
    new = {f"{ARC}/{path}": (text,) for path, text in files.items()}
    return RecordedProbe(replace(recording, files={**kept, **new}))


def test_a_card_beside_the_graphics_of_the_processor() -> None:
    host = probe("arc-b580")
    card, own = intel(host).gpus
    assert card == Gpu(
        vendor=Vendor.INTEL,
        index=0,
        name="Intel Arc B580",
        memory=12884901888,
        nodes=("/dev/dri/renderD128",),
    )
    assert (own.index, own.name, own.nodes) == (
        1,
        "Intel UHD Graphics 770",
        ("/dev/dri/renderD129",),
    )
    assert own.unified
    assert own.memory == host.platform().memory


def test_a_laptop_without_lspci() -> None:
    (gpu,) = intel(probe("iris-xe")).gpus
    assert (gpu.name, gpu.unified, gpu.nodes) == ("", True, ("/dev/dri/renderD128",))


@pytest.mark.parametrize(
    ("files", "memory"),
    [
        ({"tile0/physical_vram_size_bytes": "100", "tile1/physical_vram_size_bytes": "50"}, 150),
        ({"tile0/memory/physical_vram_size_bytes": "100"}, 100),
        ({"drm/card1/lmem_total_bytes": "0x40"}, 64),
        ({"tile0/physical_vram_size_bytes": "much"}, None),
        ({}, None),
    ],
)
def test_where_drivers_tell_of_a_cards_memory(files: dict[str, str], memory: int | None) -> None:
    card = intel(arc(files)).gpus[0]
    assert card.memory == memory
    assert not card.unified


@pytest.mark.parametrize("driver", ["vfio-pci", "snd_hda_intel", ""])
def test_only_devices_of_the_graphics_drivers(driver: str) -> None:
    recording = probe("iris-xe").recording
    files = {path: tuple(line.replace("i915", driver) for line in lines)
             for path, lines in recording.files.items()}  # fmt: skip
    assert intel(RecordedProbe(replace(recording, files=files))) == Found()


def test_a_device_without_a_render_node_can_not_be_used() -> None:
    assert intel(RecordedProbe(replace(probe("iris-xe").recording, paths=()))) == Found()


def test_an_intel_bridge_is_no_graphics_card() -> None:
    assert intel(probe("virtual-machine")) == Found()

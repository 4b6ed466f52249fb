"""AMD's devices, from the kernel's files."""

from __future__ import annotations

from dataclasses import replace

from runner.hardware.amd import amd
from runner.hardware.gpu import Found, Gpu, Vendor
from runner.hardware.recorded import RecordedProbe
from tests.hardware.hosts import probe

GIB = 1024**3


def without(machine: str, *parts: str) -> RecordedProbe:
    """A machine that lacks all files and paths with one of these in their names."""
    recording = probe(machine).recording
    files = {k: v for k, v in recording.files.items() if not any(part in k for part in parts)}
    paths = tuple(path for path in recording.paths if not any(part in path for part in parts))
    return RecordedProbe(replace(recording, files=files, paths=paths))


def test_a_desktop() -> None:
    assert amd(probe("rx-7900-xtx")) == Found(
        (
            Gpu(
                vendor=Vendor.AMD,
                index=0,
                uuid="GPU-a1ffc9d1799c317f",
                name="AMD Radeon RX 7900 XTX",
                memory=25753026560,
                driver="6.12.12",
                runtime="6.4.1",
                target="gfx1100",
                nodes=("/dev/dri/renderD128",),
            ),
        )
    )


def test_eight_cards_in_the_order_of_their_numbers_and_not_of_their_names() -> None:
    gpus = amd(probe("mi300x-8")).gpus
    assert [gpu.index for gpu in gpus] == list(range(8))
    assert [gpu.nodes[0] for gpu in gpus] == [f"/dev/dri/renderD{128 + 8 * i}" for i in range(8)]
    assert {gpu.target for gpu in gpus} == {"gfx942"}
    assert {gpu.memory for gpu in gpus} == {206141652992}
    assert len({gpu.uuid for gpu in gpus}) == 8
    assert gpus[0].uuid == "GPU-dc91284879207f2b"


def test_graphics_in_the_processor_that_share_its_memory() -> None:
    (gpu,) = amd(probe("strix-halo")).gpus
    assert (gpu.target, gpu.unified, gpu.uuid) == ("gfx1151", True, "")
    assert gpu.memory == 110 * GIB


def test_graphics_in_the_processor_with_memory_carved_out() -> None:
    (gpu,) = amd(probe("radeon-780m")).gpus
    assert (gpu.target, gpu.unified, gpu.memory) == ("gfx1103", False, 4 * GIB)
    assert gpu.name == "AMD Radeon 780M"


def test_a_card_may_name_itself() -> None:
    recording = probe("mi300x-8").recording
    path = "/sys/class/drm/renderD128/device/product_name"
    files = {**recording.files, path: ("AMD Instinct MI300X VF", "")}
    assert amd(RecordedProbe(replace(recording, files=files))).gpus[0].name.endswith(" VF")


def test_cards_that_a_container_may_not_see_are_left_out() -> None:
    hidden = [f"nodes/{node}/properties" for node in (4, 5, 6, 7, 8, 9, 11)]
    (gpu,) = amd(without("mi300x-8", *hidden)).gpus
    assert gpu.nodes == ("/dev/dri/renderD176",)


def test_without_the_compute_device() -> None:
    found = amd(without("rx-7900-xtx", "/dev/kfd"))
    assert len(found.gpus) == 1
    assert "/dev/kfd" in found.troubles[0]


def test_a_driver_without_computing() -> None:
    found = amd(without("rx-7900-xtx", "kfd"))
    assert found.gpus == ()
    assert "no computing" in found.troubles[0]


def test_no_amd_at_all() -> None:
    assert amd(probe("virtual-machine")) == Found()

"""NVIDIA's devices, from what its tools print."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runner.hardware.gpu import Found, Gpu, Vendor
from runner.hardware.nvidia import FIELDS, FORMAT, nvidia
from runner.hardware.probe import Platform
from runner.hardware.recorded import RecordedOutput, RecordedProbe, Recorder, Recording
from tests.hardware.hosts import probe

MIB = 1024**2
QUERY = f"nvidia-smi --query-gpu={FIELDS},compute_cap {FORMAT}"
DEVICE_TREE = "/proc/device-tree/compatible"


def saying(answers: dict[str, str], status: int | None = 0, **files: str) -> RecordedProbe:
    """A machine whose programs print this; `files` are uevents of PCI devices by driver."""
    return RecordedProbe(
        Recording(
            Platform("linux", "x86_64", 8, 64 * 1024 * MIB),
            commands={
                name: RecordedOutput(tuple(text.split("\n")), status)
                for name, text in answers.items()
            },
            files={
                f"/sys/bus/pci/devices/0000:0{place}:00.0/uevent": tuple(text.split("\n"))
                for place, text in enumerate(files.values())
            },
        )
    )


def only(found: Found) -> Gpu:
    assert found.troubles == ()
    (gpu,) = found.gpus
    return gpu


def test_a_desktop() -> None:
    assert only(nvidia(probe("rtx-4090"))) == Gpu(
        vendor=Vendor.NVIDIA,
        index=0,
        uuid="GPU-1e0d8a2e-6c1c-0f55-8b4a-2d6f4f1f9a37",
        name="NVIDIA GeForce RTX 4090",
        memory=24564 * MIB,
        driver="580.95.05",
        runtime="13.0",
        target="sm_89",
    )


def test_two_cards() -> None:
    found = nvidia(probe("a100-pair"))
    assert [gpu.index for gpu in found.gpus] == [0, 1]
    assert {gpu.target for gpu in found.gpus} == {"sm_80"}
    assert found.troubles == ()


def test_slices_stand_in_the_place_of_their_card() -> None:
    found = nvidia(probe("a100-mig"))
    assert [(gpu.index, gpu.name, (gpu.memory or 0) // MIB) for gpu in found.gpus] == [
        (0, "NVIDIA A100-SXM4-40GB MIG 3g.20gb", 19968),
        (0, "NVIDIA A100-SXM4-40GB MIG 1g.5gb", 4864),
        (1, "NVIDIA A100-SXM4-40GB", 40960),
    ]
    assert [gpu.uuid[:12] for gpu in found.gpus] == ["MIG-fb42055e", "MIG-3d4db13e", "GPU-6a1bd4b3"]
    assert found.troubles == ()


def test_a_card_in_mig_mode_without_slices_is_a_trouble() -> None:
    recording = probe("a100-mig").recording
    listed = recording.commands["nvidia-smi -L"]
    none = tuple(line for line in listed.text if "MIG" not in line)
    commands = {**recording.commands, "nvidia-smi -L": RecordedOutput(none)}
    found = nvidia(RecordedProbe(replace(recording, commands=commands)))
    assert [gpu.index for gpu in found.gpus] == [1]
    assert "NVIDIA GPU 0 is in MIG mode and has no slice" in found.troubles[0]


def test_an_old_driver_is_asked_again_without_what_it_does_not_know() -> None:
    gpu = only(nvidia(probe("gtx-1080")))
    assert (gpu.name, gpu.driver, gpu.runtime) == ("NVIDIA GeForce GTX 1080", "470.256.02", "11.4")
    assert gpu.target == ""
    assert gpu.memory == 8116 * MIB


@pytest.mark.parametrize(
    ("machine", "name", "target", "runtime"),
    [
        ("dgx-spark", "NVIDIA GB10", "sm_121", "13.0"),
        ("jetson-orin", "Orin (nvgpu)", "sm_87", "12.6"),
        ("jetson-xavier", "NVIDIA Jetson AGX Xavier Developer Kit", "sm_72", ""),
    ],
)
def test_memory_shared_with_the_host(machine: str, name: str, target: str, runtime: str) -> None:
    host = probe(machine)
    gpu = only(nvidia(host))
    assert (gpu.name, gpu.target, gpu.runtime) == (name, target, runtime)
    assert gpu.unified
    assert gpu.memory == host.platform().memory


def test_wsl_has_its_tool_elsewhere_and_newer_drivers_say_it_otherwise() -> None:
    gpu = only(nvidia(probe("wsl")))
    assert (gpu.driver, gpu.runtime, gpu.target) == ("610.57.04", "13.3", "sm_86")


def test_no_nvidia_at_all() -> None:
    assert nvidia(probe("virtual-machine")) == Found()


@pytest.mark.parametrize(
    ("said", "status", "told"),
    [
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure"
         " that the latest NVIDIA driver is installed and running.", 9, "modprobe nvidia"),
        ("No devices were found", 6, "No devices were found; see `dmesg | grep NVRM`"),
        ("no answer within 5 s", None, "no answer within 5 s"),
        ("", 127, "nothing"),
        ("bash: error while loading shared libraries: libnvidia-ml.so.1", 127, "libnvidia-ml.so.1"),
    ],
)  # fmt: skip
def test_a_broken_tool_is_a_trouble(said: str, status: int | None, told: str) -> None:
    found = nvidia(saying({"nvidia-smi": said, QUERY: said}, status))
    assert found.gpus == ()
    (trouble,) = found.troubles
    assert told in trouble


def test_an_old_kernel_module_is_a_trouble_with_the_next_step() -> None:
    (trouble,) = nvidia(probe("nvidia-mismatch")).troubles
    assert "Driver/library version mismatch" in trouble
    assert "restart the host" in trouble


def test_a_hanging_tool_is_asked_once() -> None:
    hung = "no answer within 5 s"
    recorder = Recorder(saying({"nvidia-smi": hung, QUERY: hung}, None))
    nvidia(recorder)
    assert list(recorder.recording().commands) == ["nvidia-smi"]


def test_a_warning_does_not_hide_a_card_that_works() -> None:
    recording = probe("rtx-4090").recording
    warned = {
        name: RecordedOutput((*told.text, "WARNING: infoROM is corrupted at gpu 0000:01:00.0"), 14)
        for name, told in recording.commands.items()
    }
    assert only(nvidia(RecordedProbe(replace(recording, commands=warned)))).target == "sm_89"


@pytest.mark.parametrize(
    "row",
    [
        "Unable to determine the device handle for GPU0000:0B:00.0: Unknown Error",
        "1, GPU-x, NVIDIA A100, [GPU requires reset], 535.129.03, 8.0",
    ],
)
def test_a_lost_card_leaves_the_others(row: str) -> None:
    good = "0, GPU-y, NVIDIA A100, 40960, 535.129.03, 8.0"
    found = nvidia(saying({"nvidia-smi": "NVIDIA-SMI 535", QUERY: f"{row}\n{good}\n"}, 15))
    assert [gpu.uuid for gpu in found.gpus] == ["GPU-y"]
    assert len(found.troubles) == 1


@pytest.mark.parametrize(
    ("driver", "told"),
    [
        ("", "install the driver"),
        ("DRIVER=nouveau\n", "install the driver"),
        ("DRIVER=nvidia\n", "nvidia-smi"),
        ("DRIVER=vfio-pci\n", ""),
    ],
)
def test_a_card_that_no_tool_knows(driver: str, told: str) -> None:
    text = f"{driver}PCI_CLASS=30000\nPCI_ID=10DE:2684\n"
    troubles = nvidia(saying({}, card=text)).troubles
    assert [told in trouble for trouble in troubles] == ([True] if told else [])


def test_names_may_hold_anything_but_a_comma() -> None:
    row = "0, GPU-z, Tesla V100-SXM2-32GB (vGPU), 32768, 535.129.03, 7.0"
    gpu = only(nvidia(saying({"nvidia-smi": "CUDA Version: 12.2", QUERY: row})))
    assert (gpu.name, gpu.runtime) == ("Tesla V100-SXM2-32GB (vGPU)", "12.2")

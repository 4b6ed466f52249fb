"""Ascend's devices, from npu-smi's table."""

from __future__ import annotations

from dataclasses import replace

from runner.hardware.ascend import ascend
from runner.hardware.gpu import Found
from runner.hardware.probe import Platform
from runner.hardware.recorded import RecordedOutput, RecordedProbe, Recording
from tests.hardware.hosts import probe

MIB = 1024**2

A3 = """\
| npu-smi 24.1.rc3.7               Version: 24.1.rc3.7                                           |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip  Phy-ID              | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 0     Ascend910           | OK            | 178.5       36                0    / 0             |
| 0     0                   | 0000:9D:00.0  | 0           0    / 0          3416 / 65536         |
+------------------------------------------------------------------------------------------------+
| 0     Ascend910           | Alarm         | -           36                0    / 0             |
| 1     1                   | 0000:9F:00.0  | 0           0    / 0          3189 / 65536         |
+===========================+===============+====================================================+
"""
CARD_310P = """\
| npu-smi 24.1.0.1                                 Version: 24.1.0.1                             |
+---------------------------+---------------+----------------------------------------------------+
| 32768   310P3             | OK            | NA          65                3277 / 3277          |
| 0       2                 | 0000:81:00.0 | 88          8420 / 44280                            |
+===========================+===============+====================================================+
"""


def saying(table: str, *paths: str, status: int | None = 0) -> RecordedProbe:
    output = RecordedOutput(tuple(table.split("\n")), status)
    platform = Platform("linux", "aarch64", 192, 1024**4)
    return RecordedProbe(Recording(platform, commands={"npu-smi info": output}, paths=paths))


def test_eight_cards() -> None:
    found = ascend(probe("ascend-910b3"))
    assert [gpu.index for gpu in found.gpus] == list(range(8))
    assert [gpu.nodes for gpu in found.gpus] == [(f"/dev/davinci{i}",) for i in range(8)]
    first = found.gpus[0]
    assert (first.name, first.target, first.driver) == ("Ascend 910B3", "ascend910b3", "24.1.rc1")
    assert {gpu.memory for gpu in found.gpus} == {65536 * MIB}
    assert found.troubles == ()


def test_two_chips_on_a_card_and_one_that_is_ill() -> None:
    found = ascend(saying(A3, "/dev/davinci0", "/dev/davinci1"))
    assert [(gpu.index, gpu.nodes) for gpu in found.gpus] == [
        (0, ("/dev/davinci0",)),
        (1, ("/dev/davinci1",)),
    ]
    assert found.troubles == ("Ascend NPU 1 is in the state Alarm: see `npu-smi info -t health`",)


def test_a_card_that_counts_from_elsewhere() -> None:
    (gpu,) = ascend(saying(CARD_310P, "/dev/davinci2", "/dev/davinci_manager")).gpus
    assert (gpu.index, gpu.name, gpu.nodes) == (2, "Ascend 310P3", ("/dev/davinci2",))
    assert gpu.memory == 44280 * MIB


def test_a_container_with_one_card_of_many() -> None:
    recording = probe("ascend-910b3").recording
    table = recording.commands["npu-smi info"].text
    start = next(place for place, line in enumerate(table) if line.startswith("| 3     910B3"))
    alone = "\n".join(table[start : start + 2])
    (gpu,) = ascend(saying(alone, "/dev/davinci3")).gpus
    assert (gpu.index, gpu.nodes) == (3, ("/dev/davinci3",))


def test_devices_without_the_tool() -> None:
    found = ascend(RecordedProbe(replace(probe("ascend-910b3").recording, commands={})))
    assert [gpu.index for gpu in found.gpus] == list(range(8))
    assert "npu-smi" in found.troubles[0]


def test_a_broken_tool() -> None:
    found = ascend(saying("dcmi module initialize failed. ret is -8005", status=249))
    assert found.gpus == ()
    assert found.troubles == ("npu-smi does not work: dcmi module initialize failed. ret is -8005",)


def test_no_ascend_at_all() -> None:
    assert ascend(probe("virtual-machine")) == Found()

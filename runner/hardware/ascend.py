"""Huawei Ascend: the table that npu-smi prints, two lines to a chip."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from runner.hardware.gpu import Found, Gpu, Vendor
from runner.hardware.probe import Output, Probe
from runner.hardware.text import MIB, first_line, number, search

NODE = "/dev/davinci"
BUS = re.compile(r"[0-9a-fA-F]{4}:\w{2}:\w{2}\.\w")
PAIR = re.compile(r"(\d{1,12})\s*/\s*(\d{1,12})", re.ASCII)
CELLS = 3
HEALTHY = "OK"


@dataclass(frozen=True, slots=True)
class Chip:
    """Two lines of the table: `npu` is the card, `physical` the chip's own number where told."""

    npu: int
    physical: int | None
    name: str
    health: str
    memory: int | None


def ascend(probe: Probe) -> Found:
    nodes = tuple(path for path in probe.glob(f"{NODE}[0-9]*"))
    answer = probe.run("npu-smi", "info")
    if answer is None or not answer.ok:
        return _without_table(nodes, answer)
    chips = list(_chips(answer.text))
    driver = search(r"Version:\s*(\S+)", answer.text)
    gpus = [_gpu(chip, order, nodes, driver) for order, chip in enumerate(chips)]
    troubles = [
        f"Ascend NPU {gpu.index} is in the state {chip.health}: see `npu-smi info -t health`"
        for chip, gpu in zip(chips, gpus, strict=True)
        if chip.health != HEALTHY
    ]
    return Found(tuple(gpus), tuple(troubles))


def _without_table(nodes: tuple[str, ...], answer: Output | None) -> Found:
    """Device nodes alone still tell which devices there are."""
    numbers = sorted(n for node in nodes if (n := number(node.removeprefix(NODE))) is not None)
    gpus = tuple(Gpu(Vendor.ASCEND, n, nodes=(f"{NODE}{n}",)) for n in numbers)
    if answer is not None:
        return Found(gpus, (f"npu-smi does not work: {first_line(answer.text)}",))
    if gpus:
        return Found(
            gpus, ("Ascend NPUs are here, but not the program npu-smi: install its driver",)
        )
    return Found()


def _chips(table: str) -> Iterator[Chip]:
    above: list[str] = []
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) == CELLS and len(above) == CELLS and BUS.fullmatch(cells[1]):
            yield _chip(above, cells)
        above = cells


def _chip(first: list[str], second: list[str]) -> Chip:
    npu, _, name = first[0].partition(" ")
    numbers = second[0].split()
    sizes = PAIR.findall(second[2])
    mebibytes = int(sizes[-1][1]) if sizes else 0
    return Chip(
        npu=number(npu) or 0,
        physical=number(numbers[1]) if len(numbers) > 1 else None,
        name=name.strip(),
        health=first[1],
        memory=mebibytes * MIB or None,
    )


def _gpu(chip: Chip, order: int, nodes: tuple[str, ...], driver: str) -> Gpu:
    index = _index(chip, order, nodes)
    node = f"{NODE}{index}"
    name = chip.name.removeprefix("Ascend").strip()
    return Gpu(
        vendor=Vendor.ASCEND,
        index=index,
        name=f"Ascend {name}",
        memory=chip.memory,
        driver=driver,
        target=f"ascend{name.lower()}",
        nodes=(node,) if node in nodes else (),
    )


def _index(chip: Chip, order: int, nodes: tuple[str, ...]) -> int:
    """The number of the device node. Cards such as the 310P count from 32768, so their own number
    is taken only where a node bears it."""
    if chip.physical is not None:
        return chip.physical
    return chip.npu if f"{NODE}{chip.npu}" in nodes else order

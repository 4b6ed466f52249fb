"""NVIDIA: cards, MIG slices, WSL, Jetson and other machines with one memory for all.

Sources: nvidia-smi (its header tells the CUDA version, the query the rest, `-L` MIG slices), the
device tree for Jetson, the PCI bus for cards without a driver.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from runner.hardware.gpu import Found, Gpu, Vendor
from runner.hardware.pci import displays
from runner.hardware.probe import Output, Probe
from runner.hardware.text import MIB, first_line, number, search

PROGRAMS = ("nvidia-smi", "/usr/lib/wsl/lib/nvidia-smi")
"""Under WSL the tool is not on a service's PATH."""

FIELDS = "index,uuid,name,memory.total,driver_version"
FORMAT = "--format=csv,noheader,nounits"
LEAST_CELLS = 5
UNKNOWN = ("[N/A]", "N/A", "[Not Supported]", "")
PCI_VENDOR = "10de"

TEGRA_TARGETS = {
    "tegra210": "sm_53",
    "tegra186": "sm_62",
    "tegra194": "sm_72",
    "tegra234": "sm_87",
    "tegra264": "sm_110",
}
"""Jetson's nvidia-smi, where there is one, doesn't tell the compute capability."""

MIG_DEVICE = re.compile(r"^\s*MIG (\S+)\s+Device\s+(\d+): \(UUID: (MIG-[^)]+)\)", re.ASCII)
MIG_MEMORY = re.compile(
    r"^\|\s+(\d+)\s+\d+\s+\d+\s+(\d+)\s+\|\s+\d+MiB\s*/\s*(\d+)MiB", re.MULTILINE | re.ASCII
)


def nvidia(probe: Probe) -> Found:
    for program in PROGRAMS:
        header = probe.run(program)
        if header is not None:
            return _asked(probe, program, header)
    jetson = _jetson(probe)
    return Found(jetson) if jetson else Found(troubles=_missing_tool(probe))


def _asked(probe: Probe, program: str, header: Output) -> Found:
    rows = _query(probe, program) if header.status is not None else header
    runtime = search(r"CUDA(?: UMD)? Version\s*:\s*(\d[\d.]*)", header.text)
    gpus, troubles = _cards(probe, rows, runtime)
    gpus = gpus or _jetson(probe)
    if not gpus and not troubles:
        return Found(troubles=(_refusal(header, rows),))
    modes = _mig_modes(header.text)
    if not modes:
        return Found(gpus, troubles)
    listed = probe.run(program, "-L")
    slices = tuple(_slices(listed.text if listed else "", header.text, gpus))
    return _sliced(modes, slices, Found(gpus, troubles))


def _query(probe: Probe, program: str) -> Output:
    """The table of cards; drivers before 510 don't know the compute capability."""
    rows = probe.run(program, f"--query-gpu={FIELDS},compute_cap", FORMAT)
    if rows is not None and "compute_cap" in rows.text:
        rows = probe.run(program, f"--query-gpu={FIELDS}", FORMAT)
    return rows or Output("", None)


def _cards(probe: Probe, rows: Output, runtime: str) -> tuple[tuple[Gpu, ...], tuple[str, ...]]:
    gpus, troubles = [], []
    for line in rows.text.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        index = number(cells[0])
        if line.startswith("Unable to"):
            troubles.append(f"nvidia-smi says: {line.strip()}; a restart of the host may help")
        elif index is None or len(cells) < LEAST_CELLS:
            continue
        elif number(cells[3]) is None and cells[3] not in UNKNOWN:
            troubles.append(f"NVIDIA GPU {index} says {cells[3]}; a restart of the host may help")
        else:
            gpus.append(_card(probe, index, cells, runtime))
    return tuple(gpus), tuple(troubles)


def _card(probe: Probe, index: int, cells: list[str], runtime: str) -> Gpu:
    card = Gpu(
        vendor=Vendor.NVIDIA,
        index=index,
        uuid=_known(cells[1]),
        name=_known(cells[2]),
        memory=(number(cells[3]) or 0) * MIB or None,
        driver=_known(cells[4]),
        runtime=runtime,
        target=_target(cells[LEAST_CELLS:]),
    )
    return card if card.memory else _shared(probe, card)


def _known(cell: str) -> str:
    return "" if cell in UNKNOWN else cell


def _target(cells: list[str]) -> str:
    match = re.fullmatch(r"(\d+)\.(\d+)", cells[0] if cells else "", re.ASCII)
    return f"sm_{match[1]}{match[2]}" if match else ""


def _shared(probe: Probe, card: Gpu) -> Gpu:
    """A card without memory of its own uses the host's: Jetson, DGX Spark."""
    return replace(
        card,
        memory=probe.platform().memory,
        target=card.target or TEGRA_TARGETS.get(_tegra(probe), ""),
        unified=True,
    )


def _tegra(probe: Probe) -> str:
    """The chip of a Jetson, such as tegra234."""
    return search(r"nvidia,(tegra\d+)", probe.read("/proc/device-tree/compatible"))


def _jetson(probe: Probe) -> tuple[Gpu, ...]:
    """What the device tree tells where nvidia-smi doesn't (before JetPack 6)."""
    if not _tegra(probe):
        return ()
    name = (probe.read("/proc/device-tree/model") or "").strip("\0 \n")
    return (_shared(probe, Gpu(Vendor.NVIDIA, 0, name=name)),)


def _sliced(modes: set[int], slices: tuple[Gpu, ...], whole: Found) -> Found:
    """Cards in MIG mode can't be used whole: their slices stand in their place."""
    cards = [gpu for gpu in whole.gpus if gpu.index not in modes]
    empty = modes - {one.index for one in slices}
    troubles = [
        f"NVIDIA GPU {index} is in MIG mode and has no slice: make one with `nvidia-smi mig -cgi`,"
        f" or leave the mode with `nvidia-smi -i {index} -mig 0`"
        for index in sorted(empty)
    ]
    gpus = sorted((*cards, *slices), key=lambda gpu: gpu.index)
    return Found(tuple(gpus), (*whole.troubles, *troubles))


def _mig_modes(header: str) -> set[int]:
    """The cards whose rows end with `Enabled |`, three lines to a card."""
    modes, card = set(), None
    for line in header.splitlines():
        start = re.match(r"\|\s+(\d+)\s{2,}\S.*\|.*\|.*\|", line, re.ASCII)
        if start and "MiB" not in line:
            card = int(start[1])
        if card is not None and re.search(r"\sEnabled\*? \|\s*$", line):
            modes.add(card)
    return modes


def _slices(listed: str, header: str, cards: tuple[Gpu, ...]) -> Iterator[Gpu]:
    sizes = {(one[0], one[1]): int(one[2]) * MIB for one in MIG_MEMORY.findall(header)}
    card = None
    for line in listed.splitlines():
        index = number(search(r"^GPU (\d+):", line))
        if index is not None:
            card = next((gpu for gpu in cards if gpu.index == index), None)
        match = MIG_DEVICE.match(line)
        if match and card:
            yield replace(
                card,
                uuid=match[3],
                name=f"{card.name} MIG {match[1]}",
                memory=sizes.get((str(card.index), match[2])),
            )


def _refusal(header: Output, rows: Output) -> str:
    said = first_line(header.text) or "nothing"
    if "communicate with the NVIDIA driver" in said:
        step = "load the driver with `modprobe nvidia`, or install it anew"
    elif "version mismatch" in said:
        step = "the driver was updated and its old kernel module is still loaded: restart the host"
    else:
        said = said if "Version" not in header.text else first_line(rows.text)
        step = "see `dmesg | grep NVRM` for the reason"
    return f"nvidia-smi says: {said.rstrip('.')}; {step}"


def _missing_tool(probe: Probe) -> tuple[str, ...]:
    drivers = {card.driver for card in displays(probe, PCI_VENDOR)}
    if drivers & {"", "nouveau"}:
        return ("an NVIDIA card is here without NVIDIA's driver: install the driver",)
    if "nvidia" in drivers:
        return ("an NVIDIA card is here, but not the program nvidia-smi: put it on the PATH",)
    return ()

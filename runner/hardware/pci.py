"""Display devices on the PCI bus, known by vendor, class and driver: no list of models to age."""

from __future__ import annotations

import re
from dataclasses import dataclass

from runner.hardware.probe import Probe
from runner.hardware.text import number, search

DISPLAY_CLASS = 0x03
NAME = re.compile(r'^(\S+) "[^"]*" "[^"]*" "([^"]*)"', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class PciDevice:
    """`slot` is such as 0000:03:00.0; `driver` is empty where none is bound."""

    slot: str
    driver: str

    @property
    def folder(self) -> str:
        return f"/sys/bus/pci/devices/{self.slot}"


def displays(probe: Probe, vendor: str) -> tuple[PciDevice, ...]:
    """A vendor's graphics cards; `vendor` in hexadecimal, such as 8086."""
    found = []
    for path in probe.glob("/sys/bus/pci/devices/*/uevent"):
        text = probe.read(path)
        kind = number(search(r"^PCI_CLASS=(\w+)$", text), 16)
        maker = search(r"^PCI_ID=(\w+):", text)
        if kind is not None and kind >> 16 == DISPLAY_CLASS and maker.lower() == vendor:
            found.append(PciDevice(path.split("/")[-2], search(r"^DRIVER=(\S+)$", text)))
    return tuple(found)


def marketing_names(probe: Probe, vendor: str) -> dict[str, str]:
    """By slot, as pci.ids has them; empty where lspci is not installed."""
    listed = probe.run("lspci", "-D", "-mm", "-nn", "-d", f"{vendor}:")
    if listed is None or not listed.ok:
        return {}
    return {slot: _short(name) for slot, name in NAME.findall(listed.text)}


def _short(name: str) -> str:
    """`Arc B580` out of `Battlemage G21 [Arc B580] [e20b]`."""
    plain = re.sub(r"\s*\[[0-9a-f]{4}\]$", "", name)
    return search(r"\[([^\]]+)\]", plain) or plain

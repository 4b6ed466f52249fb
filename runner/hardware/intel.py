"""Intel: every display device that the kernel's i915 or xe driver serves."""

from __future__ import annotations

from runner.hardware.gpu import Found, Gpu, Vendor
from runner.hardware.pci import PciDevice, displays, marketing_names
from runner.hardware.probe import Probe
from runner.hardware.text import first_line, number, search

PCI_VENDOR = "8086"
DRIVERS = ("i915", "xe")
INTEGRATED = ":00:02."
"""Where Intel's processors have their own graphics on the bus."""

MEMORY_FILES = (
    "tile*/physical_vram_size_bytes",
    "tile*/memory/physical_vram_size_bytes",
    "drm/card*/lmem_total_bytes",
)
"""Of xe, of xe with tiles that have memory of their own, of Intel's own i915."""


def intel(probe: Probe) -> Found:
    served = [card for card in displays(probe, PCI_VENDOR) if card.driver in DRIVERS]
    nodes = {card: node for card in served if (node := _node(probe, card))}
    if not nodes:
        return Found()
    names = marketing_names(probe, PCI_VENDOR)
    ordered = sorted(nodes, key=lambda card: (len(nodes[card]), nodes[card]))
    return Found(
        tuple(
            _gpu(probe, card, index, nodes[card], names.get(card.slot, ""))
            for index, card in enumerate(ordered)
        )
    )


def _node(probe: Probe, card: PciDevice) -> str:
    paths = probe.glob(f"{card.folder}/drm/renderD*")
    return f"/dev/dri/{paths[0].split('/')[-1]}" if paths else ""


def _gpu(probe: Probe, card: PciDevice, index: int, node: str, name: str) -> Gpu:
    own = _memory(probe, card)
    integrated = own is None and INTEGRATED in card.slot
    return Gpu(
        vendor=Vendor.INTEL,
        index=index,
        name=f"Intel {name}" if name else "",
        memory=probe.platform().memory if integrated else own,
        driver=first_line(probe.read(f"/sys/module/{card.driver}/version")),
        nodes=(node,),
        unified=integrated,
    )


def _memory(probe: Probe, card: PciDevice) -> int | None:
    """Of the card's own; the first kind of file that is there counts, its tiles together."""
    for pattern in MEMORY_FILES:
        sizes = [
            number(search(r"\s*(\w+)", probe.read(path)), 0)
            for path in probe.glob(f"{card.folder}/{pattern}")
        ]
        if total := sum(size or 0 for size in sizes):
            return total
    return None

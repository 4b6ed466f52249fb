"""AMD: what the kernel's compute driver (KFD) tells of its devices; no ROCm is needed for that."""

from __future__ import annotations

from runner.hardware.gpu import Found, Gpu, Vendor
from runner.hardware.pci import displays, marketing_names
from runner.hardware.probe import Probe
from runner.hardware.text import first_line, number, search

NODES = "/sys/class/kfd/kfd/topology/nodes"
NAMES = "/usr/share/libdrm/amdgpu.ids"
PCI_VENDOR = "1002"
DEVICE_HEAPS = (1, 2)
"""KFD's heap types of memory that belongs to the device: visible to the host, and not."""


def amd(probe: Probe) -> Found:
    nodes = [node for node in _nodes(probe) if _property(probe, node, "gfx_target_version")]
    gpus = tuple(_gpu(probe, node, index) for index, node in enumerate(nodes))
    return Found(gpus, _troubles(probe, gpus))


def _nodes(probe: Probe) -> list[str]:
    """In the order of their numbers, which ROCm numbers devices by; not that of their names."""
    paths = [path.removesuffix("/properties") for path in probe.glob(f"{NODES}/*/properties")]
    return sorted(paths, key=lambda path: number(path.split("/")[-1]) or 0)


def _gpu(probe: Probe, node: str, index: int) -> Gpu:
    minor = _property(probe, node, "drm_render_minor")
    device = f"/sys/class/drm/renderD{minor}/device"
    memory = _memory(probe, node)
    carved = number(probe.read(f"{device}/mem_info_vram_total"))
    return Gpu(
        vendor=Vendor.AMD,
        index=index,
        uuid=_uuid(_property(probe, node, "unique_id")),
        name=_name(probe, node, device),
        memory=memory,
        driver=first_line(probe.read("/sys/module/amdgpu/version")),
        runtime=first_line(probe.read("/opt/rocm/.info/version")).split("-")[0],
        target=_target(_property(probe, node, "gfx_target_version")),
        nodes=(f"/dev/dri/renderD{minor}",) if minor else (),
        unified=bool(memory and carved and memory > carved),
    )


def _property(probe: Probe, folder: str, name: str) -> int:
    return number(search(rf"^{name} (\d+)$", probe.read(f"{folder}/properties"))) or 0


def _target(version: int) -> str:
    """90402 is gfx942, 110501 gfx1151: two decimal digits each for minor and stepping, which the
    name has as one hexadecimal digit."""
    return f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}"


def _uuid(unique: int) -> str:
    """As ROCR_VISIBLE_DEVICES takes it; integrated devices have none."""
    return f"GPU-{unique:016x}" if unique else ""


def _memory(probe: Probe, node: str) -> int | None:
    banks = [
        path.removesuffix("/properties") for path in probe.glob(f"{node}/mem_banks/*/properties")
    ]
    own = [bank for bank in banks if _property(probe, bank, "heap_type") in DEVICE_HEAPS]
    return sum(_property(probe, bank, "size_in_bytes") for bank in own) or None


def _name(probe: Probe, node: str, device: str) -> str:
    """The card's own word for itself, else libdrm's, else that of pci.ids."""
    own = first_line(probe.read(f"{device}/product_name"))
    return own or _listed_name(probe, device) or _pci_name(probe, node)


def _listed_name(probe: Probe, device: str) -> str:
    kind = number(probe.read(f"{device}/device"), 16)
    revision = number(probe.read(f"{device}/revision"), 16)
    if kind is None or revision is None:
        return ""
    return search(rf"^{kind:04X},\s*{revision:02X},\s*(.*\S)\s*$", probe.read(NAMES))


def _pci_name(probe: Probe, node: str) -> str:
    domain, place = _property(probe, node, "domain"), _property(probe, node, "location_id")
    slot = f"{domain:04x}:{place >> 8 & 0xFF:02x}:{place >> 3 & 0x1F:02x}.{place & 7}"
    name = marketing_names(probe, PCI_VENDOR).get(slot, "")
    return f"AMD {name}" if name else ""


def _troubles(probe: Probe, gpus: tuple[Gpu, ...]) -> tuple[str, ...]:
    if gpus and not probe.glob("/dev/kfd"):
        return ("an AMD GPU is here, but not /dev/kfd: load the kernel module amdgpu anew",)
    if not gpus and any(card.driver == "amdgpu" for card in displays(probe, PCI_VENDOR)):
        return ("an AMD card is here that its kernel driver offers no computing for (KFD)",)
    return ()

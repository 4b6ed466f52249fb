"""Which devices an engine may have, and how a container would come by them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from runner.dockerhost.facts import DockerFacts
from runner.errors import BadInput, Unsupported
from runner.hardware.gpu import ACCELERATORS, VULKAN, Gpu, Vendor
from runner.hardware.host import HostFacts
from runner.names import Accelerator

ALL = "all"

TITLES = {
    Vendor.NVIDIA: "NVIDIA",
    Vendor.AMD: "AMD",
    Vendor.INTEL: "Intel",
    Vendor.ASCEND: "Ascend",
    Vendor.MTHREADS: "Moore Threads",
    Vendor.APPLE: "Apple",
}

CDI_KINDS = {
    Vendor.NVIDIA: "nvidia.com/gpu",
    Vendor.AMD: "amd.com/gpu",
    Vendor.INTEL: "intel.com/gpu",
    Vendor.ASCEND: "huawei.com/npu",
    Vendor.MTHREADS: "mthreads.com/gpu",
}
RUNTIMES = {
    Vendor.NVIDIA: "nvidia",
    Vendor.ASCEND: "ascend",
    Vendor.MTHREADS: "mthreads",
}
BY_NODES = frozenset({Vendor.AMD, Vendor.INTEL, Vendor.ASCEND})
"""Those whose device files are enough: their user-space libraries come with the image, or can be
mounted from where the driver keeps them."""

SLICE = "MIG-"
"""So begins the lasting name of a slice of an NVIDIA card, whose number is the whole card's."""

HOW_TO_SEE = {
    Vendor.NVIDIA: "`nvidia-smi` has to list it: install NVIDIA's driver",
    Vendor.AMD: "the amdgpu driver has to be loaded and /dev/kfd to be there",
    Vendor.INTEL: "the i915 or xe driver has to be loaded and /dev/dri to be there",
    Vendor.ASCEND: "`npu-smi info` has to list it: install Ascend's driver",
    Vendor.MTHREADS: "`mthreads-gmi` has to list it: install Moore Threads' driver",
    Vendor.APPLE: "Metal needs a Mac with Apple silicon",
}
HOW_TO_GRANT = {
    Vendor.NVIDIA: "install the NVIDIA Container Toolkit, then `sudo nvidia-ctk cdi generate"
    " --output=/etc/cdi/nvidia.yaml`, or `sudo nvidia-ctk runtime configure --runtime=docker` and"
    " `sudo systemctl restart docker`",
    Vendor.AMD: "Docker has to run on this very host to be given /dev/kfd and /dev/dri",
    Vendor.INTEL: "Docker has to run on this very host to be given /dev/dri",
    Vendor.ASCEND: "install the Ascend Docker Runtime on Docker's own host and restart Docker",
    Vendor.MTHREADS: "install Moore Threads' container toolkit (mt-container-toolkit), bind it to"
    " Docker and restart Docker",
    Vendor.APPLE: "engines that use Metal run as native processes, as MLX LM does",
}


class Way(StrEnum):
    """How a container comes by a device."""

    CDI = "cdi"
    RUNTIME = "runtime"
    NODES = "nodes"


class Lack(StrEnum):
    """Why an accelerator can't be had."""

    NO_GPU = "no_gpu"
    NO_WAY_IN = "no_way_into_containers"


@dataclass(frozen=True, slots=True)
class Problem:
    """What was found, what is required, and the next step."""

    code: Lack
    found: str
    required: str
    hint: str

    def refusal(self, accelerator: Accelerator) -> Unsupported:
        """The error for one who asked for the accelerator by name."""
        return Unsupported(
            f"{accelerator} can't be had here: {self.found}; required is {self.required}",
            hint=self.hint,
        )


def missing(accelerator: Accelerator, host: HostFacts, *, native: bool = False) -> Problem | None:
    """Why no engine can use the accelerator here: in a container, or as a `native` process.

    Whether there is a Docker Engine at all is not asked here.
    """
    if accelerator is Accelerator.CPU:
        return None
    gpus = host.gpus_for(accelerator)
    if not gpus:
        return _no_gpu(accelerator, host.troubles)
    if native or host.docker is None or any(_gets_in(gpu, host) for gpu in gpus):
        return None
    return _no_way_in(gpus[0].vendor, host.docker)


def chosen(gpus: Sequence[Gpu], wanted: Sequence[str]) -> tuple[Gpu, ...]:
    """The devices that were asked for by index or UUID, in the host's order; all where none was.

    The beginning of a UUID will do where it fits one device alone. Where several vendors count
    from 0, `amd:0` says which. Raises BadInput that names what there is.
    """
    if not wanted or ALL in wanted:
        return tuple(gpus)
    taken = [_named(gpus, word.strip()) for word in wanted]
    return tuple(gpu for gpu in gpus if gpu in taken)


def way_in(vendor: Vendor, gpus: Sequence[Gpu], host: HostFacts) -> Way | None:
    """The best way that there is for these devices of one vendor; None where there is none.

    One that brings in more than these comes last.
    """
    docker = host.docker
    ids = cdi_ids(vendor, gpus, docker)
    are_all = {gpu for gpu in host.gpus if gpu.vendor is vendor} == set(gpus)
    if ids and (are_all or not brings_all(ids)):
        return Way.CDI
    if docker is not None and RUNTIMES.get(vendor) in docker.runtimes:
        return Way.RUNTIME
    if _by_nodes(vendor, gpus, docker):
        return Way.NODES
    return Way.CDI if ids else None


def cdi_ids(vendor: Vendor, gpus: Sequence[Gpu], docker: DockerFacts | None) -> tuple[str, ...]:
    """The devices' own names among those that the Docker Engine knows, or the name for all, which
    is the only one on WSL; none where it knows neither."""
    kind = CDI_KINDS.get(vendor)
    if kind is None or docker is None:
        return ()
    listed = frozenset(docker.cdi_devices)
    ids = [_first([f"{kind}={name}" for name in _cdi_names(gpu)], listed) for gpu in gpus]
    if ids and all(ids):
        return tuple(filter(None, ids))
    everything = f"{kind}={ALL}"
    return (everything,) if everything in listed else ()


def brings_all(ids: Sequence[str]) -> bool:
    """Whether these CDI names bring every device of their vendor into a container."""
    return any(one.endswith(f"={ALL}") for one in ids)


def is_slice(gpu: Gpu) -> bool:
    return gpu.uuid.startswith(SLICE)


def _gets_in(gpu: Gpu, host: HostFacts) -> bool:
    return way_in(gpu.vendor, (gpu,), host) is not None


def _by_nodes(vendor: Vendor, gpus: Sequence[Gpu], docker: DockerFacts | None) -> bool:
    """Device files can be handed on only where the containers run on this very kernel."""
    on_this_kernel = docker is None or not docker.desktop
    return vendor in BY_NODES and on_this_kernel and all(gpu.nodes for gpu in gpus)


def _cdi_names(gpu: Gpu) -> list[str]:
    """What vendors' tools call a device; a lasting name is right when cards come and go."""
    numbers = [] if is_slice(gpu) else [str(gpu.index), f"gpu{gpu.index}"]
    return [*filter(None, [gpu.uuid]), *numbers]


def _first(names: Sequence[str], listed: frozenset[str]) -> str | None:
    return next((name for name in names if name in listed), None)


def _named(gpus: Sequence[Gpu], word: str) -> Gpu:
    found = list(filter(_matcher(word), gpus))
    if len(found) == 1:
        return found[0]
    here = ", ".join(_description(gpu) for gpu in gpus) or "none"
    if not found:
        raise BadInput(f"there is no GPU {word!r}", hint=f"there are: {here}")
    raise BadInput(f"{word!r} may be any of {len(found)} GPUs", hint=f"there are: {here}")


def _matcher(word: str) -> Callable[[Gpu], bool]:
    vendor, _, name = word.lower().rpartition(":")
    if vendor not in set(Vendor):
        vendor, name = "", word.lower()

    def fits(gpu: Gpu) -> bool:
        if vendor and gpu.vendor != vendor:
            return False
        if name.isdecimal() and gpu.index == int(name):
            return True
        uuid = gpu.uuid.lower()
        return uuid == name if name.isdecimal() else bool(name) and uuid.startswith(name)

    return fits


def _description(gpu: Gpu) -> str:
    facts = " ".join(filter(None, [gpu.name, gpu.uuid]))
    return f"{gpu.vendor}:{gpu.index}" + (f" ({facts})" if facts else "")


def _no_gpu(accelerator: Accelerator, troubles: Sequence[str]) -> Problem:
    vendors = [
        vendor
        for vendor in Vendor
        if (vendor in VULKAN if accelerator is Accelerator.VULKAN else _uses(vendor, accelerator))
    ]
    hint = "; ".join(HOW_TO_SEE[vendor] for vendor in vendors)
    return Problem(
        Lack.NO_GPU,
        "; ".join([f"no GPU for {accelerator} was found on this host", *troubles]),
        f"a GPU of {' or '.join(TITLES[vendor] for vendor in vendors)} with its driver",
        f"{hint}; --gpu auto takes what there is",
    )


def _uses(vendor: Vendor, accelerator: Accelerator) -> bool:
    return ACCELERATORS[vendor] is accelerator


def _no_way_in(vendor: Vendor, docker: DockerFacts) -> Problem:
    ways = [f"a CDI device {CDI_KINDS[vendor]}"] if vendor in CDI_KINDS else []
    ways += [f"Docker's runtime {RUNTIMES[vendor]}"] if vendor in RUNTIMES else []
    hint = HOW_TO_GRANT[vendor]
    if vendor in CDI_KINDS and not docker.cdi:
        hint += "; CDI is off in this Docker: `features.cdi: true` in its daemon.json turns it on"
    return Problem(
        Lack.NO_WAY_IN,
        f"there is a GPU of {TITLES[vendor]}, but Docker has no way to give it to a container",
        " or ".join(ways) or "a native process",
        hint,
    )

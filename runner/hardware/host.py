"""Facts of the machine where engines run, gathered there once and then only read."""

from __future__ import annotations

from dataclasses import dataclass

from runner.dockerhost.facts import DockerFacts
from runner.errors import BadInput
from runner.hardware.gpu import ACCELERATORS, VULKAN, Gpu, Vendor
from runner.names import Accelerator


@dataclass(frozen=True, slots=True)
class HostFacts:
    """`system` is such as linux or darwin, `architecture` as OCI images say it (amd64, arm64);
    memory in bytes. `docker` is None where no Docker Engine answers. `groups` are the numbers of
    the host's own groups that may open GPUs (render, video), where they exist. `troubles` are
    sentences about devices that seem to be there and can't be used."""

    system: str
    architecture: str
    memory: int
    cpus: int = 1
    gpus: tuple[Gpu, ...] = ()
    docker: DockerFacts | None = None
    groups: tuple[int, ...] = ()
    troubles: tuple[str, ...] = ()

    @property
    def is_mac(self) -> bool:
        return self.system == "darwin"

    @property
    def platform(self) -> str:
        """Of native processes: linux/amd64, darwin/arm64, …"""
        return f"{self.system}/{self.architecture}"

    def gpus_for(self, accelerator: Accelerator) -> tuple[Gpu, ...]:
        """The devices that an accelerator's engines can use."""
        if accelerator is Accelerator.VULKAN:
            return tuple(gpu for gpu in self.gpus if gpu.vendor in VULKAN)
        return tuple(gpu for gpu in self.gpus if ACCELERATORS[gpu.vendor] is accelerator)

    def vendors(self) -> frozenset[Vendor]:
        return frozenset(gpu.vendor for gpu in self.gpus)


def to_json(facts: HostFacts) -> str:
    """Facts as a file that `from_json` reads; the same facts give the same text."""
    import msgspec

    text = msgspec.json.encode(facts, order="deterministic")
    return msgspec.json.format(text, indent=2).decode() + "\n"


def from_json(text: str | bytes) -> HostFacts:
    """Raises BadInput that names the field."""
    import msgspec

    try:
        return msgspec.json.decode(text, type=HostFacts)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadInput(
            f"not the facts of a host: {error}",
            hint="record them anew on that host",
        ) from error

"""Why a Docker Engine would not start a container, and what a person can do about it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from runner.errors import EngineFailed, RunnerError, Unavailable
from runner.hardware.devices import CDI_KINDS, HOW_TO_GRANT, RUNTIMES
from runner.hardware.gpu import Vendor

GENERATE_CDI = "`sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml` writes it anew"


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Words of a Docker Engine, or of a vendor's runtime under it, and the next step."""

    words: re.Pattern[str]
    hint: str


def _refusals(*table: tuple[str, str]) -> tuple[_Refusal, ...]:
    return tuple(_Refusal(re.compile(words, re.IGNORECASE), hint) for words, hint in table)


REFUSALS = _refusals(
    *(
        (
            rf"unresolvable CDI devices.*{re.escape(kind)}",
            f"`docker info` lists the CDI devices that there are; {HOW_TO_GRANT[vendor]}",
        )
        for vendor, kind in CDI_KINDS.items()
    ),
    (
        r"unresolvable CDI devices",
        "`docker info` lists the CDI devices that there are; their files lie in /etc/cdi",
    ),
    (
        r'could not select device driver "cdi"',
        'turn CDI on in this Docker (`"features": {"cdi": true}` in its daemon.json), restart it',
    ),
    (r"could not select device driver", HOW_TO_GRANT[Vendor.NVIDIA]),
    *(
        (rf"unknown or invalid runtime name: {runtime}\b", HOW_TO_GRANT[vendor])
        for vendor, runtime in RUNTIMES.items()
    ),
    (
        r"unknown or invalid runtime name",
        "`docker info` lists the runtimes that there are; after a change to them restart Docker",
    ),
    (
        r"unsatisfied condition: (cuda|driver)|please update your driver",
        "the GPU's driver is too old for this image: update it, or take a variant for an older one",
    ),
    (
        r"setting rlimit type 8|rlimit.*memlock",
        "this Docker may not lock memory: take the option memory_lock out",
    ),
    (
        r"driver/library version mismatch",
        "NVIDIA's driver was updated while it was loaded: restart the machine",
    ),
    (
        r"nvidia-container-cli: .*(no-cgroups|bpf_prog_query|cgroup)",
        "a rootless Docker needs `no-cgroups = true` in /etc/nvidia-container-runtime/config.toml,"
        " or CDI",
    ),
    (
        r"nvidia-container-cli: .*(driver not loaded|nvml error|initialization error)",
        "`nvidia-smi` has to work on this host first",
    ),
    (
        r"nvidia-container-cli: device error|unknown device",
        "`nvidia-smi -L` lists the GPUs that there are",
    ),
    (
        r"failed to stat CDI host device|CDI device injection failed",
        f"the CDI file does not fit the driver that is loaded now: {GENERATE_CDI}",
    ),
    (
        r"failed to fulfil mount request.*(nvidia|cuda)",
        f"the CDI file names libraries of another driver than the one installed: {GENERATE_CDI}",
    ),
    (
        r'adding custom device "/dev/kfd"',
        "load the amdgpu driver (`sudo modprobe amdgpu`): /dev/kfd has to be there",
    ),
    (
        r'adding custom device "/dev/dri/',
        "`ls /dev/dri` shows the cards that there are; restart the runner after a change to them",
    ),
    (
        r'adding custom device "/dev/(davinci|devmm_svm|hisi_hdc)|/usr/local/Ascend',
        "install Ascend's driver: `npu-smi info` has to work on this host first",
    ),
    (
        r"adding custom device",
        "the device file has to be there before the engine starts",
    ),
)
"""The first that fits counts."""


def start_failure(engine: str, error: RunnerError) -> RunnerError:
    """What the failed start of an engine's container is told as; a Docker Engine that has gone,
    or that has no room, stays what it is."""
    if isinstance(error, Unavailable):
        return error
    hint = next((one.hint for one in REFUSALS if one.words.search(error.message)), error.hint)
    return EngineFailed(f"{engine} did not start: {error.message}", hint=hint)

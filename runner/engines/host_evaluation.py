"""Can this host run this candidate at all, whatever the model? Every criterion is looked at, none
stops the others. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from runner.engines.candidate import Candidate
from runner.engines.description import Requirements
from runner.engines.gpus import judged_gpus
from runner.engines.verdicts import Code, Verdict
from runner.errors import BadInput
from runner.hardware.devices import Lack, missing
from runner.hardware.gpu import Gpu
from runner.hardware.host import HostFacts
from runner.names import Accelerator
from runner.settings import Placement

_LISTED = 6
"""So many names of a list are shown."""


def evaluate_host(candidate: Candidate, host: HostFacts) -> tuple[Verdict, ...]:
    """Whether a host could run a candidate at all, whatever the model."""
    return (*_host(candidate, host), *_devices(candidate, host))


def is_older(found: str, required: str) -> bool:
    """Whether a version such as 535.104.05 comes before another, number by number."""
    return _numbers(found) < _numbers(required)


def _host(candidate: Candidate, host: HostFacts) -> Iterator[Verdict]:
    variant, label = candidate.variant, candidate.label
    if candidate.in_container:
        docker = host.docker
        found = f"Docker {docker.version}" if docker else "no Docker Engine answers"
        hint = "install or start Docker"
        yield Verdict(Code.DOCKER, docker is not None, label, found, "a Docker Engine", hint)
    platform = _platform(candidate, host)
    if platform and variant.platforms:
        yield Verdict(
            Code.PLATFORM,
            platform in variant.platforms,
            label,
            f"this is {platform}",
            ", ".join(variant.platforms),
            f"use a variant for {platform}",
        )
    yield from _placement(candidate)


def _platform(candidate: Candidate, host: HostFacts) -> str:
    """Of containers, where there is a Docker Engine, or of native processes."""
    if candidate.in_container:
        return host.docker.platform if host.docker else ""
    return host.platform


def _placement(candidate: Candidate) -> Iterator[Verdict]:
    wanted = candidate.placement
    if wanted is Placement.AUTO:
        return
    fits = candidate.in_container is (wanted is Placement.DOCKER)
    how = "a container" if candidate.in_container else "a native process"
    yield Verdict(
        Code.PLACEMENT,
        fits,
        candidate.label,
        f"it runs as {how}",
        wanted.value,
        f"set backends.{candidate.name}.placement to auto in the settings",
    )


def _devices(candidate: Candidate, host: HostFacts) -> Iterator[Verdict]:
    variant = candidate.variant
    if variant.accelerator is Accelerator.CPU:
        return
    gpus = host.gpus_for(variant.accelerator)
    yield _accelerator(candidate, host, gpus)
    try:
        judged = judged_gpus(candidate, host) if gpus else ()
    except BadInput:  # told by `_parallel`
        return
    if judged and variant.requires.driver:
        yield _driver(candidate, judged)
    if judged and variant.requires.targets:
        yield _target(candidate, judged)


def _accelerator(candidate: Candidate, host: HostFacts, gpus: tuple[Gpu, ...]) -> Verdict:
    accelerator = candidate.variant.accelerator
    problem = missing(accelerator, host, native=not candidate.in_container)
    if problem is None:
        names = ", ".join(dict.fromkeys(gpu.name or gpu.vendor for gpu in gpus))
        return Verdict(Code.ACCELERATOR, True, candidate.label, names, accelerator)
    code = Code.ACCESS if problem.code is Lack.NO_WAY_IN else Code.ACCELERATOR
    return Verdict(code, False, candidate.label, problem.found, problem.required, problem.hint)


def _driver(candidate: Candidate, gpus: tuple[Gpu, ...]) -> Verdict:
    requires = candidate.variant.requires
    old = [gpu for gpu in gpus if gpu.driver and is_older(gpu.driver, _needed(gpu, requires))]
    shown = old or gpus
    found = min((gpu.driver for gpu in shown if gpu.driver), key=_numbers, default="")
    strictest = max(shown, key=lambda gpu: _numbers(_needed(gpu, requires)))
    is_ptx = strictest.target in requires.ptx_targets
    why = f" for {strictest.target}, for which it has PTX alone" if is_ptx else ""
    return Verdict(
        Code.DRIVER,
        not old,
        candidate.label,
        f"the driver is {found or 'not known'}",
        f"{_needed(strictest, requires)} or newer{why}",
        "update the GPU's driver, or use a variant for an older one",
    )


def _needed(gpu: Gpu, requires: Requirements) -> str:
    """The oldest driver that runs what a variant has for this GPU."""
    return requires.ptx_driver if gpu.target in requires.ptx_targets else requires.driver


def _target(candidate: Candidate, gpus: tuple[Gpu, ...]) -> Verdict:
    required = candidate.variant.requires.targets
    foreign = [gpu.target for gpu in gpus if gpu.target and gpu.target not in required]
    found = ", ".join(dict.fromkeys(foreign or [gpu.target for gpu in gpus if gpu.target]))
    return Verdict(
        Code.TARGET,
        not foreign,
        candidate.label,
        f"the GPU is {found or 'not known'}",
        few(required),
        "use a variant that is compiled for it, or --gpu none",
    )


def few(names: Sequence[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))

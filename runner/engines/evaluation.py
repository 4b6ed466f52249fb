"""Can this candidate serve this model on this host? Every criterion is looked at, none stops the
others. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from runner.engines.base import Mode
from runner.engines.candidate import Candidate, Wish
from runner.engines.description import ANY, Form, Requirements
from runner.engines.gpus import cut, cuts_up, given_gpus, judged_gpus
from runner.engines.verdicts import Code, Verdict
from runner.errors import BadInput
from runner.hardware.devices import Lack, missing
from runner.hardware.gpu import Gpu
from runner.hardware.host import HostFacts
from runner.models.traits import ModelTraits
from runner.names import Accelerator, gpu_word
from runner.settings import Placement

_LISTED = 6
"""So many names of a list are shown."""


def evaluate(
    candidate: Candidate, traits: ModelTraits, host: HostFacts, wish: Wish
) -> tuple[Verdict, ...]:
    """Every verdict on a candidate, in the order that people ask."""
    return (
        *_asked(candidate, wish),
        *_model(candidate, traits),
        *_work(candidate, wish),
        *evaluate_host(candidate, host),
        *_parallel(candidate, traits, host),
        *_here(candidate),
    )


def evaluate_host(candidate: Candidate, host: HostFacts) -> tuple[Verdict, ...]:
    """Whether a host could run a candidate at all, whatever the model."""
    return (*_host(candidate, host), *_devices(candidate, host))


def is_older(found: str, required: str) -> bool:
    """Whether a version such as 535.104.05 comes before another, number by number."""
    return _numbers(found) < _numbers(required)


def knows(quantization: str, known: tuple[str, ...]) -> bool:
    """Whether a quantization such as awq-int4 is among the known ones, which may name it whole,
    its method alone, or `any`."""
    method = quantization.partition("-")[0]
    return ANY in known or quantization in known or method in known


def _asked(candidate: Candidate, wish: Wish) -> Iterator[Verdict]:
    if wish.engine:
        yield Verdict(
            Code.ENGINE,
            candidate.name == wish.engine,
            candidate.label,
            candidate.name,
            wish.engine,
            "it was asked for by name",
        )
    wanted = wish.accelerator
    if wanted is not None:
        yield Verdict(
            Code.ENGINE,
            candidate.variant.accelerator is wanted,
            candidate.label,
            f"it is for {candidate.variant.accelerator}",
            wanted.value,
            f"--gpu {gpu_word(wanted)} was asked for",
        )
    if wish.variant:
        yield Verdict(
            Code.ENGINE,
            candidate.variant.name == wish.variant,
            candidate.label,
            candidate.variant.name,
            wish.variant,
            "this variant was asked for",
        )


def _model(candidate: Candidate, traits: ModelTraits) -> Iterator[Verdict]:
    about, label = candidate.engine.description, candidate.label
    reads = ", ".join(sorted(about.formats))
    is_read = traits.format in about.formats
    found = f"the model is {traits.format}"
    yield Verdict(Code.FORMAT, is_read, label, found, reads, "use another engine")
    if is_read:
        known = candidate.variant.quantizations.get(traits.format, about.formats[traits.format])
        yield Verdict(
            Code.QUANTIZATION,
            knows(traits.quantization, known),
            label,
            f"the quantization is {traits.quantization}",
            ", ".join(known),
            "use another engine, or the model in another quantization",
        )
        if about.architectures:
            yield _architecture(candidate, traits)
    if traits.is_adapter:
        yield Verdict(
            Code.ADAPTER,
            False,
            label,
            "it is an adapter",
            "a whole model",
            "load the model it was made for: `runner inspect` names it as the base",
        )


def _architecture(candidate: Candidate, traits: ModelTraits) -> Verdict:
    known = candidate.engine.description.architectures
    names = {traits.architecture, traits.model_type} - {""}
    found = f"the architecture is {traits.architecture or 'not told'}"
    hint = f"{candidate.name} {candidate.version} does not know it: use another engine"
    required = f"one of {len(known)} that {candidate.name} knows"
    return Verdict(Code.ARCHITECTURE, bool(names & known), candidate.label, found, required, hint)


def _work(candidate: Candidate, wish: Wish) -> Iterator[Verdict]:
    about, label = candidate.engine.description, candidate.label
    does = ", ".join(sorted(about.modes))
    is_done = wish.mode in about.modes
    yield Verdict(
        Code.MODE, is_done, label, f"the mode is {wish.mode}", does, _another_mode(wish.mode)
    )
    for name in candidate.options.set_fields():
        if name not in candidate.engine.supported:
            yield Verdict(
                Code.OPTION,
                False,
                label,
                f"{name} is set",
                f"an engine that has {name}",
                f"take {name} out of the model's configuration, or use another engine",
            )


def _another_mode(mode: Mode) -> str:
    return f"use an engine that does {mode}"


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
            "use another variant",
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
        f"backends.{candidate.name}.placement says so",
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


def _parallel(candidate: Candidate, traits: ModelTraits, host: HostFacts) -> Iterator[Verdict]:
    """The wish for GPUs, and for a model that is cut up over them."""
    options, label = candidate.options, candidate.label
    if not candidate.has_gpu:
        yield from _without_gpus(candidate)
        return
    if not host.gpus_for(candidate.variant.accelerator):
        return  # told by `_accelerator`
    try:
        given = given_gpus(candidate, host)
    except BadInput as error:
        yield Verdict(Code.GPUS, False, label, error.message, "GPUs of this host", error.hint)
        return
    if not cuts_up(candidate.engine):
        return
    wanted = cut(options, len(given))
    if options.tensor_parallel_size or options.pipeline_parallel_size:
        yield Verdict(
            Code.GPUS,
            wanted.gpus <= len(given),
            label,
            f"there are {len(given)} GPUs",
            f"{wanted.gpus} for the parts that the model is cut into",
            f"set tensor_parallel_size to {max(1, len(given) // wanted.pipeline)} or less",
        )
    if traits.heads and wanted.tensor > 1:
        yield Verdict(
            Code.HEADS,
            traits.heads % wanted.tensor == 0,
            label,
            f"the model has {traits.heads} attention heads",
            f"a number that {wanted.tensor} divides",
            f"set tensor_parallel_size to a divisor of {traits.heads}",
        )


def _without_gpus(candidate: Candidate) -> Iterator[Verdict]:
    """Whoever asks for GPUs is not served without."""
    options = candidate.options
    wishes = (
        (options.gpus, "gpus"),
        ((options.tensor_parallel_size or 1) > 1, "tensor_parallel_size"),
        ((options.pipeline_parallel_size or 1) > 1, "pipeline_parallel_size"),
    )
    for wished, name in wishes:
        if wished:
            yield Verdict(
                Code.GPUS,
                False,
                candidate.label,
                f"{name} is set, and it uses no GPU",
                "a variant that uses GPUs",
                f"take {name} out, or use a GPU variant",
            )


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
    more = f" and {len(required) - _LISTED} more" if len(required) > _LISTED else ""
    return Verdict(
        Code.TARGET,
        not foreign,
        candidate.label,
        f"the GPU is {found or 'not known'}",
        ", ".join(required[:_LISTED]) + more,
        "this variant is not compiled for it: use another",
    )


def _here(candidate: Candidate) -> Iterator[Verdict]:
    found = f"version {candidate.version} is" if candidate.is_installed else "it is not"
    yield Verdict(
        Code.INSTALLED,
        candidate.is_installed,
        candidate.label,
        f"{found} installed",
        "an installed variant",
        install_hint(candidate),
    )


def install_hint(candidate: Candidate) -> str:
    """The command that installs it."""
    if candidate.variant.form is Form.WHEEL:
        return "pip install 'runner[embedded]'"
    gpu = gpu_word(candidate.variant.accelerator)
    version = candidate.variant.accelerator_version
    variant = f" --variant {candidate.variant.name}" if version else ""
    return f"runner install-runner --backend {candidate.name} --gpu {gpu}{variant}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))

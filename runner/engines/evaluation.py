"""Can this candidate serve this model on this host? Every criterion is looked at, none stops the
others. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from runner.engines.abilities import (
    able,
    does,
    knows_architecture,
    quantizations,
    reads,
    reads_format,
)
from runner.engines.candidate import Candidate, Wish
from runner.engines.description import Form
from runner.engines.gpus import cut, cuts_up, given_gpus
from runner.engines.host_evaluation import evaluate_host, few
from runner.engines.verdicts import Code, Verdict
from runner.errors import BadInput
from runner.hardware.host import HostFacts
from runner.models.traits import ModelTraits
from runner.names import gpu_word


@runtime_checkable
class ChoosesTargets(Protocol):
    """An engine that reads some quantizations on some of the GPUs alone that it is compiled for."""

    def has_kernels(self, quantization: str, target: str) -> bool:
        """For a quantization that it reads, and a GPU's target, such as fp8 and gfx942."""
        ...


def evaluate(
    candidate: Candidate,
    traits: ModelTraits,
    host: HostFacts,
    wish: Wish,
    others: Sequence[Candidate] = (),
) -> tuple[Verdict, ...]:
    """Every verdict on a candidate, in the order that people ask. `others` are what there is
    besides on this host: hints name those of them that can what this one can't."""
    return (
        *_asked(candidate, wish),
        *_model(candidate, traits, others),
        *_work(candidate, traits, wish, others),
        *evaluate_host(candidate, host),
        *_kernels(candidate, traits, host, others),
        *_parallel(candidate, traits, host),
        *_here(candidate),
    )


def _asked(candidate: Candidate, wish: Wish) -> Iterator[Verdict]:
    if wish.engine:
        yield Verdict(
            Code.ENGINE,
            candidate.name == wish.engine,
            candidate.label,
            candidate.name,
            wish.engine,
            f"leave --backend out, or take --backend {candidate.name}",
        )
    wanted = wish.accelerator
    if wanted is not None:
        yield Verdict(
            Code.ENGINE,
            candidate.variant.accelerator is wanted,
            candidate.label,
            f"it is for {candidate.variant.accelerator}",
            wanted.value,
            f"leave --gpu out, or take --gpu {gpu_word(candidate.variant.accelerator)}",
        )
    if wish.variant:
        yield Verdict(
            Code.ENGINE,
            candidate.variant.name == wish.variant,
            candidate.label,
            candidate.variant.name,
            wish.variant,
            f"take --backend {candidate.name}:{candidate.variant.name}",
        )


def _model(
    candidate: Candidate, traits: ModelTraits, others: Sequence[Candidate]
) -> Iterator[Verdict]:
    about, label = candidate.engine.description, candidate.label
    if traits.is_adapter:  # what its weights are in does not matter: no engine serves it alone
        yield Verdict(
            Code.ADAPTER,
            False,
            label,
            "it is an adapter",
            "a whole model",
            "load the model it was made for, which `runner inspect` names as its base; "
            "`runner configure BASE --lora ADAPTER` adds it there",
        )
        return
    is_read = reads_format(candidate, traits)
    found = f"the model is {traits.format}"
    formats = ", ".join(sorted(about.formats))
    instead = able(candidate, others, lambda one: reads_format(one, traits))
    hint = f"use {instead}" if instead else "no engine here does: take it in another format"
    yield Verdict(Code.FORMAT, is_read, label, found, formats, hint)
    if is_read:
        yield Verdict(
            Code.QUANTIZATION,
            reads(candidate, traits),
            label,
            f"the quantization is {traits.quantization}",
            ", ".join(quantizations(candidate, traits)),
            _another_quantization(candidate, traits, others),
        )
        if about.architectures:
            yield _architecture(candidate, traits, others)


def _another_quantization(
    candidate: Candidate, traits: ModelTraits, others: Sequence[Candidate]
) -> str:
    instead = able(candidate, others, lambda one: reads(one, traits))
    else_ = "the model in another quantization"
    return f"use {instead}, or {else_}" if instead else f"no engine here reads it: take {else_}"


def _architecture(
    candidate: Candidate, traits: ModelTraits, others: Sequence[Candidate]
) -> Verdict:
    known = candidate.engine.description.architectures
    instead = able(
        candidate, others, lambda one: reads(one, traits) and knows_architecture(one, traits)
    )
    step = f"use {instead}" if instead else "no engine here does: take another model"
    return Verdict(
        Code.ARCHITECTURE,
        knows_architecture(candidate, traits),
        candidate.label,
        f"the architecture is {traits.architecture or 'not told'}",
        f"one of {len(known)} that {candidate.name} knows",
        f"{candidate.name} {candidate.version} does not know it: {step}",
    )


def _work(
    candidate: Candidate, traits: ModelTraits, wish: Wish, others: Sequence[Candidate]
) -> Iterator[Verdict]:
    instead = able(
        candidate, others, lambda one: does(one, wish.mode) and reads_format(one, traits)
    )
    lacking = f"no engine here does {wish.mode} with {traits.format}: take another model"
    yield Verdict(
        Code.MODE,
        does(candidate, wish.mode),
        candidate.label,
        f"the mode is {wish.mode}",
        ", ".join(sorted(candidate.engine.description.modes)),
        f"use {instead}" if instead else lacking,
    )
    for name in candidate.options.set_fields():
        if name not in candidate.engine.supported:
            yield _option(candidate, traits, name, others)


def _option(
    candidate: Candidate, traits: ModelTraits, name: str, others: Sequence[Candidate]
) -> Verdict:
    instead = able(
        candidate, others, lambda one: name in one.engine.supported and reads(one, traits)
    )
    return Verdict(
        Code.OPTION,
        False,
        candidate.label,
        f"{name} is set",
        f"an engine that has {name}",
        f"take {name} out of the model's configuration{f', or use {instead}' if instead else ''}",
    )


def _kernels(
    candidate: Candidate, traits: ModelTraits, host: HostFacts, others: Sequence[Candidate]
) -> Iterator[Verdict]:
    """The GPUs that a quantization is too new for, though the variant is compiled for them."""
    engine, quantization = candidate.engine, traits.quantization
    if not (candidate.has_gpu and isinstance(engine, ChoosesTargets)):
        return
    try:
        targets = dict.fromkeys(gpu.target for gpu in given_gpus(candidate, host))
    except BadInput:  # told by `_parallel`
        return
    lacking = [one for one in targets if not engine.has_kernels(quantization, one)]
    if lacking:
        compiled = candidate.variant.requires.targets
        fitting = [one for one in compiled if engine.has_kernels(quantization, one)]
        instead = able(candidate, others, lambda one: reads(one, traits))
        yield Verdict(
            Code.TARGET,
            False,
            candidate.label,
            f"the GPU is {', '.join(lacking)}",
            f"{few(fitting)} for {quantization}",
            "take the model in another quantization, or another GPU"
            f"{f'; it is read here by {instead}' if instead else ''}",
        )


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

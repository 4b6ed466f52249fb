"""Which GPUs an instance is given, and how a model is cut up over them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runner.engines.base import Engine
from runner.engines.candidate import Candidate
from runner.engines.description import Variant
from runner.engines.options import Options
from runner.hardware.devices import chosen
from runner.hardware.gpu import Gpu
from runner.hardware.host import HostFacts


@dataclass(frozen=True, slots=True)
class Cut:
    """Every layer is cut into `tensor` parts, and the layers are spread over `pipeline` stages."""

    tensor: int
    pipeline: int

    @property
    def gpus(self) -> int:
        return self.tensor * self.pipeline


def cut(options: Options, given: int) -> Cut:
    """For an engine that has a process for each GPU: as was set, else over all it is given."""
    stages = options.pipeline_parallel_size or 1
    return Cut(options.tensor_parallel_size or max(given // stages, 1), stages)


def cuts_up(engine: Engine) -> bool:
    """Whether it has a process for each GPU, instead of one that uses all that it is given."""
    return "tensor_parallel_size" in engine.supported


def given_gpus(candidate: Candidate, host: HostFacts) -> tuple[Gpu, ...]:
    """Those that were asked for; else those that the variant can run on, the largest first and as
    many as the model is cut up over, or all for an engine that spreads by itself. Raises BadInput
    for a GPU that there is not."""
    options = candidate.options
    picked = judged_gpus(candidate, host)
    if options.gpus or not cuts_up(candidate.engine):
        return picked
    largest = sorted(picked, key=lambda gpu: -(gpu.memory or 0))[: cut(options, 1).gpus]
    return tuple(gpu for gpu in picked if gpu in largest)


def judged_gpus(candidate: Candidate, host: HostFacts) -> tuple[Gpu, ...]:
    """The GPUs that matter: those that were asked for, else those that the variant is compiled
    for, or all where it is for none of them. Raises BadInput."""
    there = host.gpus_for(candidate.variant.accelerator)
    if candidate.options.gpus:
        return chosen(there, candidate.options.gpus)
    return _compiled_for(candidate.variant, there) or there


def _compiled_for(variant: Variant, gpus: Sequence[Gpu]) -> tuple[Gpu, ...]:
    """A GPU that does not tell its target may be one."""
    targets = variant.requires.targets
    return tuple(gpu for gpu in gpus if not (targets and gpu.target) or gpu.target in targets)

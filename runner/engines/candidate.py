"""What could serve a model: a variant of an engine, installed or not, and how it would be run."""

from __future__ import annotations

from dataclasses import dataclass

from runner.engines.base import Engine, Mode
from runner.engines.description import Form, Variant
from runner.engines.native import NativeProgram
from runner.engines.options import Options
from runner.names import Accelerator
from runner.settings import Placement
from runner.state import Install


@dataclass(frozen=True, slots=True)
class Candidate:
    """`install` is the record of the variant where it is installed, `program` what runs as a
    native process. Neither: it could be installed. `options` are what was set for the model and
    this engine."""

    engine: Engine
    variant: Variant
    install: Install | None = None
    program: NativeProgram | None = None
    placement: Placement = Placement.AUTO
    options: Options = Options()  # noqa: RUF009 - frozen

    @property
    def name(self) -> str:
        return self.engine.description.name

    @property
    def label(self) -> str:
        return self.variant.label

    @property
    def is_installed(self) -> bool:
        return self.install is not None or self.program is not None or self.runs_itself

    @property
    def runs_itself(self) -> bool:
        return self.variant.form is Form.CODE

    @property
    def in_container(self) -> bool:
        return self.variant.form is Form.IMAGE

    @property
    def version(self) -> str:
        """Of what is installed, else of what would be."""
        if self.install is not None:
            return self.install.version
        return self.program.version if self.program is not None else self.variant.version

    @property
    def priority(self) -> int:
        return self.variant.priority or self.engine.description.priority

    @property
    def has_gpu(self) -> bool:
        return self.variant.accelerator is not Accelerator.CPU


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request, or its path, asks for: `engine` is "" and `accelerator` None for any,
    `variant` is a variant's name or "" for any."""

    engine: str = ""
    accelerator: Accelerator | None = None
    variant: str = ""
    mode: Mode = Mode.COMPLETION

"""Verdicts: one reason each why a variant can or can't serve a model here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """What was looked at."""

    ENGINE = "engine"
    """Another engine, variant or accelerator was asked for."""
    FORMAT = "format"
    QUANTIZATION = "quantization"
    ARCHITECTURE = "architecture"
    ADAPTER = "adapter"
    MODE = "mode"
    OPTION = "option"
    PLATFORM = "platform"
    ACCELERATOR = "accelerator"
    ACCESS = "access"
    """The GPU is there, and Docker can't hand it in."""
    DRIVER = "driver"
    TARGET = "target"
    HEADS = "heads"
    GPUS = "gpus"
    DOCKER = "docker"
    PLACEMENT = "placement"
    INSTALLED = "installed"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`ok` says whether it speaks for the variant. `subject` is the variant, `found` and
    `required` are what is there and what would be needed; `hint` is the next step where not."""

    code: Code
    ok: bool
    subject: str
    found: str
    required: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.subject}: {self.found}, required: {self.required}"

"""Which variant serves a model, and why: every candidate gets a verdict or is the choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from runner.artifacts.media import ModelFormat
from runner.engines.base import Engine, Mode
from runner.engines.native import NativeProgram
from runner.errors import EngineNotInstalled, NoEngineFits, RunnerError
from runner.names import Accelerator
from runner.settings import Placement, Settings
from runner.state import Install

NATIVE_VARIANT = "native"


class Reason(StrEnum):
    """Why a candidate can't serve."""

    FORMAT = "format"
    MODE = "mode"
    NOT_INSTALLED = "not_installed"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One reason against one candidate: what was found, what is required, what to do."""

    code: Reason
    subject: str
    found: str
    required: str
    hint: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.found}, required: {self.required}"


@dataclass(frozen=True, slots=True)
class Offer:
    """What this host has."""

    installs: Sequence[Install]
    native: Mapping[str, NativeProgram]
    is_mac: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """The variant that serves: `install` for a container, `program` for a native process."""

    engine: Engine
    variant: str
    version: str
    install: Install | None
    program: NativeProgram | None


def choose(
    engines: Mapping[str, Engine],
    offer: Offer,
    settings: Settings,
    *,
    wanted: str | None,
    model_format: ModelFormat,
    mode: Mode,
) -> Choice:
    """The first engine, in the user's order of preference, that can serve.

    An engine that was asked for by name is honoured or refused, never replaced.
    Raises EngineNotInstalled, NoEngineFits.
    """
    verdicts: list[Verdict] = []
    for name in [wanted] if wanted else _in_order(engines, settings.preference):
        verdict = _judge(engines[name], offer, settings, model_format, mode)
        if isinstance(verdict, Choice):
            return verdict
        verdicts.append(verdict)
    raise _refusal(verdicts)


def _in_order(engines: Mapping[str, Engine], preference: Sequence[str]) -> list[str]:
    preferred = [name for name in preference if name in engines]
    return [*preferred, *(name for name in engines if name not in preferred)]


def _judge(
    engine: Engine, offer: Offer, settings: Settings, model_format: ModelFormat, mode: Mode
) -> Choice | Verdict:
    if model_format not in engine.formats:
        serves = ", ".join(sorted(engine.formats))
        return Verdict(
            Reason.FORMAT, engine.name, f"the model is {model_format}", serves, "use another engine"
        )
    if mode not in engine.modes:
        serves = ", ".join(sorted(engine.modes))
        return Verdict(
            Reason.MODE, engine.name, f"the mode is {mode}", serves, "use another engine"
        )
    return _placed(engine, offer, settings.backend(engine.name).placement)


def _placed(engine: Engine, offer: Offer, placement: Placement) -> Choice | Verdict:
    native = offer.native.get(engine.name)
    installed = _best_install(engine.name, offer.installs)
    prefers_native = placement is Placement.PROCESS or (
        placement is Placement.AUTO and (offer.is_mac or installed is None)
    )
    if native is not None and prefers_native:
        return Choice(engine, NATIVE_VARIANT, native.version, None, native)
    if installed is None or placement is Placement.PROCESS:
        return _not_installed(engine.name, placement)
    return Choice(engine, installed.variant, installed.version, installed, None)


def _not_installed(engine: str, placement: Placement) -> Verdict:
    if placement is Placement.PROCESS:
        hint = f"pip install 'runner[embedded]', or set backends.{engine}.binary"
        return Verdict(
            Reason.NOT_INSTALLED, engine, "no native program is here", "a native program", hint
        )
    hint = f"runner install-runner --backend {engine}; without Docker: pip install runner[embedded]"
    return Verdict(Reason.NOT_INSTALLED, engine, "it is not installed", "an engine image", hint)


def _best_install(engine: str, installs: Sequence[Install]) -> Install | None:
    """GPU before CPU, then by name, so that the order of installation never matters."""
    of_engine = [install for install in installs if install.engine == engine]
    return min(of_engine, key=_rank, default=None)


def _rank(install: Install) -> tuple[bool, str]:
    return (install.variant == Accelerator.CPU, install.variant)


def _refusal(verdicts: Sequence[Verdict]) -> RunnerError:
    message = "; ".join(str(verdict) for verdict in verdicts)
    hint = verdicts[0].hint if verdicts else "runner install-runner"
    if all(verdict.code is Reason.NOT_INSTALLED for verdict in verdicts):
        return EngineNotInstalled(message, hint=hint)
    return NoEngineFits(f"no engine can serve this model: {message}", hint=hint)

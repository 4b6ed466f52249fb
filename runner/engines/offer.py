"""Everything that could serve here: each engine's variants, with what of them is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from runner.engines.base import Engine
from runner.engines.candidate import Candidate
from runner.engines.description import Form, Variant
from runner.engines.native import NATIVE_VARIANT, NativeProgram, has_wheel, native_program
from runner.engines.options import Options
from runner.hardware.host import HostFacts
from runner.names import Accelerator
from runner.settings import BackendSettings, Settings
from runner.state import Install


def candidates(
    engines: Mapping[str, Engine],
    installs: Sequence[Install],
    settings: Settings,
    host: HostFacts,
    options: Callable[[str], Options] = lambda engine: Options(),
) -> tuple[Candidate, ...]:
    """`options` tells what was set, by engine. Raises BadSettings for a native program that is
    not there."""
    recorded = {(install.engine, install.variant): install for install in installs}
    return tuple(
        candidate
        for name, engine in engines.items()
        for candidate in _of(engine, recorded, settings.backend(name), host, options(name))
    )


def _of(
    engine: Engine,
    recorded: Mapping[tuple[str, str], Install],
    backend: BackendSettings,
    host: HostFacts,
    options: Options,
) -> Iterator[Candidate]:
    about = engine.description
    for variant in about.variants:
        install = recorded.get((about.name, variant.name))
        program = _environment_program(engine, variant, install)
        yield Candidate(engine, variant, install, program, backend.placement, options)
    program = native_program(about.name, backend)
    if program is not None or has_wheel(about.name):
        variant = _native_variant(about.name, program, host)
        yield Candidate(engine, variant, None, program, backend.placement, options)


def _environment_program(
    engine: Engine, variant: Variant, install: Install | None
) -> NativeProgram | None:
    if variant.form is not Form.ENVIRONMENT or install is None:
        return None
    return NativeProgram((install.image, *engine.native_arguments), install.version)


def _native_variant(name: str, program: NativeProgram | None, host: HostFacts) -> Variant:
    """The engine's own wheel, or the user's binary; of a Mac both use Metal."""
    return Variant(
        engine=name,
        name=NATIVE_VARIANT,
        accelerator=Accelerator.METAL if host.is_mac else Accelerator.CPU,
        version=program.version if program else "",
        form=Form.WHEEL,
        platforms=(host.platform,),
        folder=Path(),
        context=Path(),
    )

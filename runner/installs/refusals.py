"""Why there is nothing to uninstall, and what a person can do about it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runner.engines.candidate import Candidate
from runner.engines.description import Form
from runner.engines.unknown_names import no_variant
from runner.errors import EngineNotInstalled, RunnerError, Unsupported
from runner.installs.wanted import Wanted
from runner.state import Install


def nothing_leaves(
    wanted: Wanted,
    offered: Sequence[Candidate],
    installs: Sequence[Install],
    binary: Path | None = None,
) -> RunnerError:
    """`offered` and `installs` are the engine's own, `binary` the program that the settings name
    for it."""
    recorded = [install.variant for install in installs]
    names = dict.fromkeys([*(one.variant.name for one in offered), *recorded])
    if wanted.variant and wanted.variant not in names:
        return no_variant(wanted.engine, wanted.variant, list(names))
    stays = next((one for one in offered if one.is_installed and _fits(one, wanted)), None)
    if stays is not None:
        return _stays(stays, binary)
    what = wanted.variant or (wanted.gpu.value if wanted.gpu else "")
    return EngineNotInstalled(
        f"{wanted.engine}{' for ' if what else ''}{what} is not installed",
        hint=f"installed of it: {', '.join(recorded)}" if recorded else "see `runner engines`",
    )


def _fits(candidate: Candidate, wanted: Wanted) -> bool:
    variant = candidate.variant
    return wanted.variant in ("", variant.name) and wanted.gpu in (None, variant.accelerator)


def _stays(candidate: Candidate, binary: Path | None) -> Unsupported:
    """One that is here without having been installed."""
    label, name = candidate.label, candidate.name
    if candidate.variant.form is Form.CODE:
        return Unsupported(
            f"{label} can't be uninstalled: it runs by itself, from a Python package",
            hint="`pip uninstall` takes that package away, then `runner restart-runner`",
        )
    if binary is not None:
        return Unsupported(
            f"{label} can't be uninstalled: it is your own program {binary}",
            hint=f"take `backends.{name}.binary` out of the settings, then `runner restart-runner`",
        )
    return Unsupported(
        f"{label} can't be uninstalled: it comes with the runner, in its own Python environment",
        hint=f"to have another variant go first: `runner engines default {name} VARIANT`",
    )

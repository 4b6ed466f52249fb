"""The engines of this daemon: those that ship, the user's own, and those that packages bring."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from runner.engines.base import Engine
from runner.engines.catalog import descriptions
from runner.engines.description import EngineDescription
from runner.engines.unknown_names import no_engine
from runner.errors import BadSettings, RunnerError
from runner.names import near_hint
from runner.settings import Settings


class Engines(Mapping[str, Engine]):
    """By name, in the order of names. `problems` are engines that could not be read, which are
    left out: one broken engine never takes the others with it."""

    def __init__(self, engines: Sequence[Engine], problems: Sequence[RunnerError] = ()) -> None:
        self._engines = {
            engine.description.name: engine
            for engine in sorted(engines, key=lambda engine: engine.description.name)
        }
        self.problems = tuple(problems)

    def __getitem__(self, name: str) -> Engine:
        return self._engines[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._engines)

    def __len__(self) -> int:
        return len(self._engines)

    def named(self, name: str) -> Engine:
        """Raises EngineNotFound with the nearest name."""
        engine = self._engines.get(name)
        if engine is None:
            raise no_engine(name, list(self._engines))
        return engine


def check_settings(engines: Engines, settings: Settings) -> None:
    """Raises BadSettings for the name of an engine that there is not. Where one could not be read
    nobody knows which name it would have: nothing is said then."""
    if engines.problems:
        return
    named = {"preference": settings.preference, "backends": tuple(settings.backends)}
    for setting, names in named.items():
        for name in names:
            if name not in engines:
                raise BadSettings(
                    f"{setting}: {name!r} is not an engine",
                    hint=near_hint(name, list(engines), "engines"),
                )


def engines(own: Path | None = None) -> Engines:
    """All engines; `own` is the folder of the user's."""
    from runner.engines.custom import described
    from runner.engines.plugins import plugged_in

    shipped = [_shipped(about) for about in descriptions()]
    found, problems = [*shipped], []
    for source in (described(own), plugged_in()):
        for outcome in source:
            if isinstance(outcome, RunnerError):
                problems.append(outcome)
            elif outcome.description.name in {one.description.name for one in found}:
                problems.append(_twice(outcome.description))
            else:
                found.append(outcome)
    return Engines(found, problems)


def _twice(about: EngineDescription) -> RunnerError:
    from runner.errors import Conflict

    where = about.file or about.origin
    return Conflict(
        f"there is an engine {about.name} already: the one of {where} is left out",
        hint="give it another name",
    )


def _shipped(about: EngineDescription) -> Engine:
    from runner.engines.llamacpp import LlamaCpp
    from runner.engines.mlx import MlxLm
    from runner.engines.transformers import Transformers
    from runner.engines.vllm import Vllm

    makers: Mapping[str, Callable[[EngineDescription], Engine]] = {
        "llama.cpp": LlamaCpp,
        "mlx-lm": MlxLm,
        "transformers": Transformers,
        "vllm": Vllm,
    }
    return makers[about.name](about)

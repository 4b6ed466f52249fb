"""Engines that other packages bring, by entry points of the group `runner.engines`.

An entry point names an object with the `Engine` protocol, or a class or function that makes one.
What it leaves out has a default: only `description` must be there, and `command` where the engine
runs in a container or an environment. A variant of the form `code` is run by the plug-in itself,
which then is a `SelfRunning` too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from runner.engines.base import Command, Endpoint, Metric, Plan
from runner.engines.description import EngineDescription
from runner.engines.environment import EnvironmentRule
from runner.engines.flags import FlagRules
from runner.engines.foreign import Call, Failed, Late, called, told
from runner.engines.plugin_checks import Facts, checked, is_command
from runner.errors import BadInput, EngineFailed, RunnerError

log = logging.getLogger(__name__)

GROUP = "runner.engines"
LOAD_S = 10.0
"""All plug-ins together have so long to be imported and to describe themselves: the daemon waits
for them when it starts."""
COMMAND_S = 5.0
"""A command is made of the plan alone: whoever starts the engine waits for it."""
HINT_S = 1.0
"""A hint is read out of a few lines, and an error waits for it."""

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Work:
    """One instance that a plug-in shall run.

    `plan.listen` is where it should listen; `command` is what its own `command(plan)` made, with
    the environment that the user's and the engine's settings come to. `run` is a folder for its
    sockets and logs that is taken away at the end, `cache` one that stays. What it writes to the
    file `log` is shown by `runner logs`. `memory_bytes` is what it should keep to.
    """

    instance: str
    plan: Plan
    command: Command
    run: Path
    cache: Path
    log: Path
    memory_bytes: int


@runtime_checkable
class SelfRunning(Protocol):
    """A plug-in that runs its engine itself. All may block: they are called in threads, and given
    up after a while. It may also have `stats(instance) -> Mapping[str, float]`, the engine's own
    figures, and `logs(instance, tail) -> Sequence[str]`, in place of the file `work.log`."""

    def start(self, work: Work) -> Endpoint:
        """Returns where the engine can be reached; it may still be loading then, until its health
        path answers with 200. Where this raises, `stop` is called, to clear up what there is."""
        ...

    def stop(self, instance: str, grace_s: float) -> None:
        """Asks it to end, and forces it after `grace_s`. An instance may be gone already."""
        ...

    def health(self, instance: str) -> bool:
        """Whether it lives, loading or ready: asked every second."""
        ...


class Patience:
    """Calls of one kind to one plug-in. While one hangs, no other is begun: each would hold a
    thread for good, and keep its caller waiting for nothing."""

    def __init__(self) -> None:
        self._hangs: Call[Any] | None = None

    def called(self, work: Callable[[], Made], timeout_s: float) -> Made:
        """Raises Failed, and RunnerError where the code itself raised one."""
        if self._hangs is not None and not _has_returned(self._hangs):
            raise Failed("it still hangs in an earlier call")
        call = Call(work)
        try:
            return call.result(timeout_s)
        except Failed as error:
            self._hangs = call if isinstance(error, Late) else None
            raise


def _has_returned(call: Call[Any]) -> bool:
    try:
        call.result(0)
    except Late:
        return False
    except (Failed, RunnerError):
        return True
    return True


@dataclass(frozen=True, slots=True)
class PluggedEngine:
    """An engine out of an entry point: its facts were read and checked once, its code is never
    trusted. `source` names the distribution and the entry point."""

    source: str
    facts: Facts
    plugin: object
    _commands: Patience = field(default_factory=Patience, compare=False, repr=False)
    _hints: Patience = field(default_factory=Patience, compare=False, repr=False)

    @property
    def description(self) -> EngineDescription:
        return self.facts.description

    @property
    def supported(self) -> frozenset[str]:
        return self.facts.supported

    @property
    def flag_rules(self) -> FlagRules:
        return self.facts.flag_rules

    @property
    def environment_rules(self) -> Sequence[EnvironmentRule]:
        return self.facts.environment_rules

    @property
    def metrics(self) -> Mapping[Metric, str]:
        return self.facts.metrics

    @property
    def native_arguments(self) -> tuple[str, ...]:
        return self.facts.native_arguments

    @property
    def runner(self) -> SelfRunning | None:
        """The plug-in, where it can run the engine itself. Blocking: even the question for what
        it has may run code of its own."""
        plugin = self.plugin
        try:
            return called(lambda: plugin if isinstance(plugin, SelfRunning) else None, COMMAND_S)
        except (Failed, RunnerError) as error:
            log.warning("%s can't say whether it runs itself: %s", self.source, error)
            return None

    def command(self, plan: Plan) -> Command:
        """Raises EngineFailed where the plug-in hangs, or raises anything but a RunnerError."""
        try:
            made = self._commands.called(lambda: self._made(plan), COMMAND_S)
        except Failed as error:
            raise EngineFailed(
                f"{self.source} can't make a command: {error}",
                hint="update or remove that package, then `runner restart-runner`",
            ) from error
        if made is None:
            raise EngineFailed(f"{self.source} made a command that is no `Command` of texts")
        return made

    def hint(self, log_lines: Sequence[str]) -> str:
        """Nothing where the plug-in raises or hangs, which is logged."""
        try:
            return self._hints.called(lambda: self._found(log_lines), HINT_S)
        except (Failed, RunnerError) as error:
            log.warning("%s has no hint: %s", self.source, error)
            return ""

    def _made(self, plan: Plan) -> Command | None:
        """None for what is no command. Runs the plug-in's code, as the next one does."""
        make = getattr(self.plugin, "command", None)
        made: Any = Command(()) if make is None else make(plan)
        if not is_command(made):
            return None
        return Command(tuple(made.arguments), dict(made.environment))

    def _found(self, log_lines: Sequence[str]) -> str:
        find = getattr(self.plugin, "hint", None)
        found = find(log_lines) if find else ""
        return found if isinstance(found, str) else ""


def plugged_in() -> Iterator[PluggedEngine | RunnerError]:
    """Every engine of an entry point, in the order of their names; what is wrong with one is its
    error. All are loaded at once, so that a slow one costs the others nothing."""
    try:
        points = sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value))
    except Exception as error:
        yield BadInput(f"the installed packages can't be listed: {told(error)}")
        return
    deadline = time.monotonic() + LOAD_S
    calls = [(point, Call(lambda point=point: _read(point))) for point in points]  # type: ignore[misc]
    for point, call in calls:
        yield _outcome(point, call, deadline)


def _outcome(
    point: EntryPoint, call: Call[PluggedEngine], deadline: float
) -> PluggedEngine | RunnerError:
    try:
        return call.result(max(0.0, deadline - time.monotonic()))
    except Failed as error:
        late = f"it did not load within {LOAD_S:.0f} s" if isinstance(error, Late) else error
        return BadInput(
            f"{source_of(point)} is left out: {late}",
            hint="update or remove that package, then `runner restart-runner`",
        )
    except RunnerError as error:
        return error


def source_of(point: EntryPoint) -> str:
    """How people find it: the distribution, and the entry point."""
    package = f"{point.dist.name} {point.dist.version}" if point.dist else "no package"
    return f"the engine plug-in {point.name!r} ({point.value}) of {package}"


def _read(point: EntryPoint) -> PluggedEngine:
    """Raises whatever the plug-in raises; BadInput for what it says of itself."""
    found: Any = point.load()
    plugin = found() if _is_maker(found) else found
    source = source_of(point)
    return PluggedEngine(source, checked(plugin, source, isinstance(plugin, SelfRunning)), plugin)


def _is_maker(found: object) -> bool:
    return isinstance(found, type) or (callable(found) and not hasattr(found, "description"))

"""Engines that a user describes: a folder with an engine.yaml and an image or a Dockerfile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.engines.base import Command, Metric, Plan, TcpEndpoint, UnixEndpoint
from runner.engines.description import EngineDescription, Origin
from runner.engines.engine_file import FILE_NAME, PLACEHOLDER, read_engine_file
from runner.engines.environment import COMMON_RULES, EnvironmentRule, Policy
from runner.engines.flags import FlagRules, is_flag
from runner.engines.loghints import Hint, hint_from
from runner.errors import BadEngineFile, RunnerError

OPTIONS: Mapping[str, str] = {"context_size": "context_size", "threads": "threads"}
"""Placeholder → the option that it carries out."""
SAYS_SO = "its engine.yaml says so"
FILLED = "its engine.yaml has the runner fill it in"

HINTS = (
    Hint(r"out of memory|cannot allocate memory|bad_alloc", "not enough memory: use a smaller"
         " context or a smaller model"),
    Hint(r"driver version is insufficient|driver too old", "the GPU's driver is too old for this"
         " image: update the driver"),
    Hint(r"error while loading shared libraries: (?P<library>[^\s:]+)", "the image lacks {library}:"
         " correct its Dockerfile"),
    Hint(r"No module named '?(?P<module>[\w.]+)", "the image lacks the Python module {module}"),
    Hint(r"read-only file system", "engines may write to /cache and /tmp alone: point it there"),
    Hint(r"permission denied", "engines run as the user 10001, without privileges: see"
         " docs/custom-engines.md"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class DescribedEngine:
    """Starts what its engine.yaml says, with the placeholders filled in."""

    description: EngineDescription

    @property
    def supported(self) -> frozenset[str]:
        used = set(_placeholders(self.description.command))
        return frozenset(option for name, option in OPTIONS.items() if name in used) | {"gpus"}

    @property
    def flag_rules(self) -> FlagRules:
        """Which of its flags are harmless nobody here can know: each has to be allowed by the
        operator (`allowed_flags`), and those that the runner fills in stay the runner's own."""
        return FlagRules({}, own=dict.fromkeys(_filled_flags(self.description.command), FILLED))

    @property
    def environment_rules(self) -> Sequence[EnvironmentRule]:
        """What the description sets is a default for whoever configures a model, but where it
        holds a placeholder, or none may set it otherwise."""
        return tuple(_environment_rules(self.description.environment))

    @property
    def metrics(self) -> Mapping[Metric, str]:
        return {}

    @property
    def native_arguments(self) -> tuple[str, ...]:
        return ()

    def command(self, plan: Plan) -> Command:
        values = _values(plan)
        arguments = _filled(self.description.command, values)
        environment = {
            name: _with_values(text, values)
            for name, text in self.description.environment.items()
            if PLACEHOLDER.search(text) and _has_all(text, values)
        }
        return Command((*arguments, *plan.flags), environment)

    def hint(self, log: Sequence[str]) -> str:
        return hint_from(log, HINTS)


def described(folder: Path | None) -> Iterator[DescribedEngine | RunnerError]:
    """Every engine below the folder, in the order of names; what can't be read is its error."""
    if folder is None:
        return
    try:
        inside = sorted(one for one in folder.iterdir() if not one.name.startswith("."))
        folders = [one for one in inside if one.is_dir()]
    except FileNotFoundError:
        return
    except OSError as error:
        yield BadEngineFile(f"can't read {folder}: {error.strerror}")
        return
    for one in folders:
        try:
            yield _read(one / FILE_NAME)
        except RunnerError as error:
            yield error


def _read(file: Path) -> DescribedEngine:
    """Raises BadEngineFile."""
    if not file.is_file():
        raise BadEngineFile(
            f"{file.parent} has no file {FILE_NAME}",
            hint=f"write one, as docs/custom-engines.md shows, or move {file.parent} elsewhere",
        )
    return DescribedEngine(read_engine_file(file, Origin.USER))


def _values(plan: Plan) -> Mapping[str, str]:
    """By placeholder; one that has no value here is missing."""
    values = {
        "model_path": str(plan.model_folder),
        "model_file": str(plan.model_file),
        "model_name": plan.names[0],
        "context_size": str(plan.context_size),
        "gpu_count": str(plan.gpu_count),
        "cache": str(plan.cache_folder),
    }
    if plan.options.threads is not None:
        values["threads"] = str(plan.options.threads)
    match plan.listen:
        case UnixEndpoint(path):
            values["socket"] = path
        case TcpEndpoint(host, port):
            values |= {"host": host, "port": str(port)}
    return values


def _filled(command: Sequence[str], values: Mapping[str, str]) -> Iterator[str]:
    """Each argument with its values; one that has none is left out, with the flag it belongs to."""
    for argument, value in _with_following(command):
        if _has_all(argument, values) and _has_all(value, values):
            yield _with_values(argument, values)


def _with_following(command: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each argument, and the next one where that is the value of this flag, else ""."""
    for argument, following in zip(command, (*command[1:], ""), strict=True):
        yield argument, following if is_flag(argument) and not is_flag(following) else ""


def _filled_flags(command: Sequence[str]) -> Iterator[str]:
    for argument, value in _with_following(command):
        if is_flag(argument) and PLACEHOLDER.search(argument + value):
            yield argument.partition("=")[0]


def _environment_rules(environment: Mapping[str, str]) -> Iterator[EnvironmentRule]:
    for name, value in environment.items():
        if PLACEHOLDER.search(value):
            yield EnvironmentRule(name, Policy.FORBIDDEN, FILLED)
        elif any(rule.matches(name) for rule in COMMON_RULES):
            yield EnvironmentRule(name, Policy.FORCED, SAYS_SO, value)
        else:
            yield EnvironmentRule(name, Policy.DEFAULT, SAYS_SO, value)


def _with_values(text: str, values: Mapping[str, str]) -> str:
    return PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), text)


def _has_all(argument: str, values: Mapping[str, str]) -> bool:
    return all(name in values for name in _placeholders((argument,)))


def _placeholders(command: Sequence[str]) -> Iterator[str]:
    for argument in command:
        yield from PLACEHOLDER.findall(argument)

"""The house's rules, read from the source: imports point one way, and modules stay small."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import runner

SOURCE = Path(runner.__file__).parent
MAX_LINES = 400

# Each may import what stands below it, also inside functions and for types alone.
LAYERS = (
    "__main__",
    "cli",
    "daemon",
    "api",
    "gateway",
    "scheduler",
    "launch",
    "installs",
    "engines",
    "hardware",
    "dockerhost",
    "models",
    "hubs",
    "store",
    "artifacts",
    "weights",
    "registry",
    "state",
    "demo",
    "configuration",
    "settings",
    "daemonlock",
    "home",
    "logfile",
    "names",
    "errors",
    "__init__",
)

READS_ENVIRONMENT = {
    "configuration.py",  # the one reader of settings
    "hubs/credentials.py",  # tokens, which belong to the hubs
    "cli/background.py",  # which home, without loading all settings; the daemon's inheritance
    "installs/tools.py",  # what Docker and pip inherit
    "launch/process.py",  # what native engines inherit
    "registry/authfiles.py",  # DOCKER_CONFIG and REGISTRY_AUTH_FILE, other programs' own
    "dockerhost/host.py",  # DOCKER_HOST and the like, which belong to Docker
}


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def label(module: Path) -> str:
    return module.relative_to(SOURCE).as_posix()


def parsed(module: Path) -> ast.Module:
    return ast.parse(module.read_text(encoding="utf-8"), label(module))


def layer_of(name: str) -> str:
    """The layer of a dotted name such as runner.api.app; `__init__` for the package's own names."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def exists(name: str) -> bool:
    path = SOURCE.joinpath(*name.split(".")[1:])
    return path.is_dir() or path.with_suffix(".py").is_file()


def imported(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of each of the runner's own modules that is imported anywhere."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: 1 - node.level or None] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            names = [
                name if exists(name := f"{base}.{alias.name}") else base for alias in node.names
            ]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.split(".")[0] == "runner")


def upward(module: Path) -> Iterator[str]:
    parts = ("runner", *module.relative_to(SOURCE).with_suffix("").parts)
    above = LAYERS[: LAYERS.index(parts[1])] if parts[1] in LAYERS else ()
    for line, name in imported(parsed(module), ".".join(parts[:-1])):
        if layer_of(name) in above:
            yield f"{label(module)}:{line} imports {name}"


def environment_reads(module: Path) -> Iterator[str]:
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names = [node.attr] if node.value.id == "os" else []
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            if name in {"environ", "environb", "getenv", "getenvb"}:
                yield f"{label(module)}:{node.lineno} reads os.{name}"


def test_every_module_has_its_place() -> None:
    present = {entry.stem for entry in SOURCE.iterdir() if entry.suffix == ".py" or holds(entry)}
    assert present - set(LAYERS) == set(), "name the layer in LAYERS and in docs/architecture.md"


def holds(folder: Path) -> bool:
    return folder.is_dir() and any(folder.rglob("*.py"))


def test_imports_point_one_way() -> None:
    assert [line for module in modules() for line in upward(module)] == []


def test_few_modules_read_the_environment() -> None:
    others = [module for module in modules() if label(module) not in READS_ENVIRONMENT]
    assert [line for module in others for line in environment_reads(module)] == []


def test_those_few_still_do() -> None:
    reading = {label(module) for module in modules() if any(environment_reads(module))}
    assert READS_ENVIRONMENT - reading == set()


def test_modules_fit_in_the_head() -> None:
    lengths = {label(m): len(m.read_text(encoding="utf-8").splitlines()) for m in modules()}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_LINES} == {}


def test_nothing_is_left_to_do() -> None:
    marks = ("TODO", "FIXME", "XXX")
    text = {label(module): module.read_text(encoding="utf-8") for module in modules()}
    assert [name for name, code in text.items() if any(mark in code for mark in marks)] == []


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("import runner.api.app", ["runner.api.app"]),
        ("from runner.api import app", ["runner.api.app"]),
        ("from runner.errors import RunnerError", ["runner.errors"]),
        ("from runner import __version__", ["runner"]),
        ("from runner import cli", ["runner.cli"]),
        ("from . import base", ["runner.launch.base"]),
        ("from .base import Launcher", ["runner.launch.base"]),
        ("from ..errors import RunnerError", ["runner.errors"]),
        ("def late():\n    from runner import daemon", ["runner.daemon"]),
        ("import runners, os", []),
    ],
)
def test_every_form_of_import_is_seen(code: str, names: list[str]) -> None:
    assert [name for _, name in imported(ast.parse(code), "runner.launch")] == names

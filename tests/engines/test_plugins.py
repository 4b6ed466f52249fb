"""Engines out of entry points: found, checked, and never able to break anything but themselves."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from runner.artifacts.media import ModelFormat
from runner.engines import plugins
from runner.engines.base import Command, Plan, UnixEndpoint
from runner.engines.description import Form, Origin, Requirements
from runner.engines.environment import EnvironmentRule
from runner.engines.flags import FlagRules
from runner.engines.plugin_checks import checked
from runner.engines.plugins import PluggedEngine, plugged_in
from runner.engines.registered import engines
from runner.errors import BadInput, EngineFailed, Unsupported
from tests.support.plugin import write_package
from tests.support.plugin.serving import Serving, description

GOOD = "from tests.support.plugin.serving import Serving as engine\n"
LIMIT_S = 0.2
DEADLINE_S = 20.0
PLAN = Plan(
    PurePosixPath("/m/w.gguf"), PurePosixPath("/m"), UnixEndpoint("/run/e.sock"), 4096, ("m",)
)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of the import path; the modules that come from it are forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for module in tmp_path.glob("*.py"):
        sys.modules.pop(module.stem, None)


def only() -> PluggedEngine | BadInput:
    (found,) = plugged_in()
    assert isinstance(found, PluggedEngine | BadInput)
    return found


def engine() -> PluggedEngine:
    found = only()
    assert isinstance(found, PluggedEngine), found
    return found


def problem() -> BadInput:
    found = only()
    assert isinstance(found, BadInput), found
    return found


# Found


def test_a_package_brings_an_engine(packages: Path) -> None:
    write_package(packages, "serving-engine", GOOD)
    found = engine()
    assert found.description.name == "serving"
    assert found.description.origin is Origin.ENTRY_POINT
    assert isinstance(found.runner, Serving)
    where = "'serving-engine' (serving_engine_module:engine) of serving-engine 1.2"
    assert found.source == f"the engine plug-in {where}"


@pytest.mark.parametrize(
    "source",
    [
        GOOD,
        "from tests.support.plugin.serving import Serving\nengine = Serving()\n",
        "from tests.support.plugin.serving import Serving\ndef engine():\n    return Serving()\n",
        "from tests.support.plugin.serving import Serving\nengine = lambda: Serving()\n",
    ],
    ids=["class", "object", "function", "lambda"],
)
def test_an_object_and_what_makes_one_are_both_right(packages: Path, source: str) -> None:
    write_package(packages, "one", source)
    assert engine().description.name == "serving"


def test_what_is_left_out_has_defaults(packages: Path) -> None:
    write_package(packages, "one", GOOD)
    found = engine()
    assert found.supported == frozenset()
    assert found.flag_rules == FlagRules({})
    assert found.environment_rules == ()
    assert found.metrics == {}
    assert found.native_arguments == ()
    assert found.command(PLAN) == Command(())
    assert found.hint(["line"]) == ""


def test_it_is_one_of_all_engines(packages: Path) -> None:
    write_package(packages, "one", GOOD)
    write_package(packages, "two", GOOD)
    found = engines()
    assert isinstance(found["serving"], PluggedEngine)
    assert "llama.cpp" in found
    (told,) = found.problems
    assert "there is an engine serving already" in told.message


def test_the_command_line_never_imports_a_plug_in(packages: Path) -> None:
    """Neither the commands' modules nor a command that needs no daemon."""
    write_package(packages, "loud", "raise SystemExit('a plug-in was imported')\n")
    code = (
        "import sys, importlib, pkgutil, runner.cli\n"
        "for one in pkgutil.iter_modules(runner.cli.__path__):\n"
        "    importlib.import_module(f'runner.cli.{one.name}')\n"
        "from runner.__main__ import main\n"
        "sys.argv = ['runner', 'version']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "assert 'loud_module' not in sys.modules\n"
        "assert 'runner.engines.plugins' not in sys.modules\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": f"{packages}:{root}", "PATH": "", "RUNNER_HOME": str(packages / "home")},
        check=False,
    )
    assert done.returncode == 0, done.stderr


# Broken ones


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise ValueError('no\\nway')\n", "ValueError: no way"),
        ("import sys\nsys.exit('bye')\n", "SystemExit: bye"),
        ("import no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("this is no python\n", "SyntaxError"),
        ("", "AttributeError: module 'one_module' has no attribute 'engine'"),
        ("def engine():\n    raise KeyboardInterrupt\n", "KeyboardInterrupt"),
        ("def engine(needed): ...\n", "TypeError"),
        ("engine = None\n", "`description` is missing, no EngineDescription"),
        ("engine = 'text'\n", "`description` is missing"),
        ("engine = dict\n", "`description` is missing"),
        ("class engine:\n    description = {}\n", "`description` is of the type dict"),
        (
            "class engine:\n    @property\n    def description(self):\n        return 1 / 0\n",
            "ZeroDivisionError",
        ),
    ],
)
def test_what_is_broken_is_a_problem_that_names_it(
    packages: Path, source: str, reason: str
) -> None:
    write_package(packages, "one", source)
    found = problem()
    assert reason in found.message
    assert "'one' (one_module:engine) of one 1.2 is left out: " in found.message
    assert "\n" not in found.message
    assert found.hint


def test_one_that_never_returns_costs_a_few_seconds_and_no_other(
    packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugins, "LOAD_S", 1.0)
    write_package(packages, "a-slow", "import threading\nthreading.Event().wait(5)\n")
    write_package(packages, "b-good", GOOD)
    slow, good = plugged_in()
    assert isinstance(slow, BadInput)
    assert "it did not load within 1 s" in slow.message
    assert isinstance(good, PluggedEngine)


def test_metadata_that_cannot_be_read_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: str) -> object:
        raise OSError("the disk is on fire")

    monkeypatch.setattr(plugins, "entry_points", fail)
    assert "the disk is on fire" in problem().message


# What one says of itself

VARIANT = description().variants[0]
IMAGE = replace(VARIANT, form=Form.IMAGE, folder=Path("/nonexistent"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": "Upper"}, "name: found 'Upper'"),
        ({"name": 7}, "name: found 7"),
        ({"name": "status"}, "name: 'status' stands for something else"),
        ({"name": "llamacpp"}, "name: 'llamacpp' stands for something else"),
        ({"title": None}, "title: found None"),
        ({"summary": "two\nlines"}, "summary: found 'two\\nlines', allowed: one line"),
        ({"health_path": "health"}, "health_path: found 'health'"),
        ({"priority": "high"}, "priority: found 'high'"),
        ({"priority": 10**6}, "allowed: a whole number from -1000 to 1000"),
        ({"memory": -1}, "memory: found -1"),
        ({"formats": ()}, "formats: found of the type tuple"),
        ({"formats": {}}, "formats: there is none"),
        ({"formats": {"gguf": ("any",)}}, "formats: found 'gguf', allowed: a ModelFormat"),
        ({"formats": {ModelFormat.GGUF: "any"}}, "allowed: a tuple such as ('any',)"),
        ({"modes": frozenset()}, "modes: found none"),
        ({"modes": frozenset({"completion!"})}, "modes: found none, or something else"),
        ({"architectures": ["llama"]}, "architectures: it is no frozenset"),
        ({"listens_on_tcp": "no"}, "listens_on_tcp: found of the type str"),
        ({"file": "engine.yaml"}, "file: found of the type str"),
        ({"variants": ()}, "variants: there is none"),
        ({"variants": [VARIANT]}, "variants: it is no tuple of Variant"),
        ({"variants": (VARIANT, VARIANT)}, "two of them have one name"),
        ({"default_variant": "other"}, "there is no variant 'other'"),
    ],
)
def test_a_description_is_checked(change: dict[str, Any], reason: str) -> None:
    plugin = Serving(replace(description(), **change))
    with pytest.raises(BadInput, match="the plug-in x is left out: ") as caught:
        checked(plugin, "the plug-in x", runs_itself=True)
    assert reason in caught.value.message


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": "no name"}, "variants[0].name: found 'no name'"),
        ({"engine": "other"}, "variants[0].engine: found 'other', allowed: 'serving'"),
        ({"version": ""}, "variants[0].version: found ''"),
        ({"accelerator": "cuda"}, "variants[0].accelerator: found of the type str"),
        ({"form": "code"}, "variants[0].form: found 'code'"),
        ({"form": Form.WHEEL}, "allowed: image, environment, code"),
        ({"platforms": ()}, "variants[0].platforms: found none"),
        ({"platforms": ("linux",)}, "variants[0].platforms: found 'linux'"),
        ({"image": "UPPER CASE"}, "variants[0].image: found 'UPPER CASE'"),
        ({"folder": "."}, "variants[0].folder: found of the type str"),
        ({"requires": {}}, "variants[0].requires: found of the type dict"),
        ({"requires": Requirements(driver=5)}, "the driver is no text"),  # type: ignore[arg-type]
        ({"base": 5}, "variants[0].base: found 5"),
        ({"quantizations": {1: ()}}, "variants[0].quantizations: found 1"),
    ],
)
def test_a_variant_is_checked(change: dict[str, Any], reason: str) -> None:
    plugin = Serving(replace(description(), variants=(replace(VARIANT, **change),)))
    with pytest.raises(BadInput) as caught:
        checked(plugin, "x", runs_itself=True)
    assert reason in caught.value.message


class Plain:
    """A plug-in that is only what a test gives it."""

    def __init__(self, **members: object) -> None:
        self.description = description()
        for name, value in members.items():
            setattr(self, name, value)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"supported": "threads"}, "`supported` is of the type str"),
        ({"supported": frozenset({"treads"})}, "`supported` names 'treads'"),
        ({"flag_rules": {}}, "`flag_rules` is of the type dict"),
        ({"flag_rules": FlagRules(None)}, "`flag_rules.known` is no mapping"),  # type: ignore[arg-type]
        (
            {"flag_rules": FlagRules({}, nested={"a": 1})},  # type: ignore[dict-item]
            "`flag_rules.nested` is no mapping",
        ),
        ({"environment_rules": ["A"]}, "`environment_rules` is no sequence"),
        (
            {"environment_rules": [EnvironmentRule("A", "default", "")]},  # type: ignore[arg-type]
            "`environment_rules` is no sequence",
        ),
        ({"metrics": {"requests": "x"}}, "`metrics` is no mapping"),
        ({"native_arguments": ["-m"]}, "`native_arguments` is no tuple"),
        ({}, "serving/code runs by code, and `start`, `stop` or `health` is missing"),
        (
            {"description": replace(description(), variants=(IMAGE,))},
            "serving/code needs `command`, which is missing",
        ),
        (
            {"description": replace(description(), variants=(IMAGE,)), "command": print},
            "serving/code: the file /nonexistent/Dockerfile is missing",
        ),
    ],
)
def test_the_rest_is_checked(members: dict[str, object], reason: str) -> None:
    with pytest.raises(BadInput) as caught:
        checked(Plain(**members), "x", runs_itself=False)
    assert reason in caught.value.message


def test_all_mistakes_are_told_at_once() -> None:
    wrong = replace(description(), name="A B", health_path="", priority=-5000)
    with pytest.raises(BadInput) as caught:
        checked(Serving(wrong), "x", runs_itself=True)
    for word in ("name: ", "health_path: ", "priority: ", "variants[0].engine: "):
        assert word in caught.value.message


# Its functions


def plugged(**members: object) -> PluggedEngine:
    plugin = Plain(**members)
    return PluggedEngine("the plug-in x", checked(Serving(), "x", runs_itself=True), plugin)


def raising(error: Exception) -> Callable[..., object]:
    def fail(*_: object) -> object:
        raise error

    return fail


def test_a_command_is_its_own() -> None:
    made = Command(("--model", "x"), {"A": "1"})
    assert plugged(command=lambda plan: made).command(PLAN) == made


def test_a_command_that_raises_fails_that_engine() -> None:
    with pytest.raises(EngineFailed, match="the plug-in x can't make a command: KeyError: 'a'"):
        plugged(command=raising(KeyError("a"))).command(PLAN)


def test_the_runners_own_errors_pass() -> None:
    with pytest.raises(Unsupported, match="no such mode"):
        plugged(command=raising(Unsupported("no such mode"))).command(PLAN)


@pytest.mark.parametrize(
    "made",
    [None, ("--model",), Command("--model"), Command((1,)), Command((), {"A": 1})],  # type: ignore[arg-type, dict-item]
)
def test_a_command_that_is_none_is_refused(made: object) -> None:
    with pytest.raises(EngineFailed, match="no `Command` of texts"):
        plugged(command=lambda plan: made).command(PLAN)


@pytest.mark.parametrize("hint", [raising(ValueError()), lambda log: None, lambda log: 1])
def test_a_hint_that_fails_is_none(hint: object) -> None:
    assert plugged(hint=hint).hint(["x"]) == ""


# Its functions, when they hang


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """What hangs waits for it, and waits of seconds are short."""
    for name in ("COMMAND_S", "HINT_S"):
        monkeypatch.setattr(plugins, name, LIMIT_S)
    over = threading.Event()
    yield over
    over.set()


def quickly(work: Callable[[], object]) -> float:
    """Seconds that it took."""
    before = time.monotonic()
    work()
    return time.monotonic() - before


def refused(found: PluggedEngine) -> EngineFailed:
    with pytest.raises(EngineFailed) as caught:
        found.command(PLAN)
    return caught.value


def test_a_command_that_hangs_is_given_up_and_told(gate: threading.Event) -> None:
    made = Command(("--x",))
    calls: list[Plan] = []

    def hang(plan: Plan) -> Command:
        calls.append(plan)
        assert gate.wait(DEADLINE_S)
        return made

    found = plugged(command=hang)
    error = refused(found)
    assert error.message == "the plug-in x can't make a command: it did not return within 0.2 s"
    assert "runner restart-runner" in error.hint
    assert quickly(lambda: refused(found)) < LIMIT_S
    assert "it still hangs in an earlier call" in refused(found).message
    assert calls == [PLAN], "one that hangs is not asked again"
    gate.set()
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            assert found.command(PLAN) == made
        except EngineFailed:
            assert time.monotonic() < deadline
        else:
            break


def test_a_hint_that_hangs_is_none_and_logged(
    gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    found = plugged(hint=lambda log: gate.wait(DEADLINE_S))
    with caplog.at_level(logging.WARNING):
        assert found.hint(["x"]) == ""
        assert quickly(lambda: found.hint(["x"])) < LIMIT_S
    assert "the plug-in x has no hint: it did not return within 0.2 s" in caplog.text
    assert "it still hangs in an earlier call" in caplog.text


def test_one_that_raised_is_asked_again(gate: threading.Event) -> None:
    asked: list[object] = []

    def answer(log: object) -> str:
        asked.append(log)
        if len(asked) == 1:
            raise ValueError("busy")
        return "use less"

    found = plugged(hint=answer)
    assert (found.hint(["x"]), found.hint(["x"])) == ("", "use less")


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), BadInput("no")])
def test_a_hint_ends_nothing(error: BaseException) -> None:
    def fail(log: object) -> str:
        raise error

    assert plugged(hint=fail).hint(["x"]) == ""


class Slow(Mapping[Any, Any]):
    """A mapping that is quick while it is checked, and then never answers."""

    def __init__(self, inside: Mapping[Any, Any]) -> None:
        self.inside = inside
        self.hangs = False

    def __getitem__(self, key: object) -> object:
        assert not self.hangs
        return self.inside[key]

    def __iter__(self) -> Iterator[Any]:
        assert not self.hangs
        return iter(self.inside)

    def __len__(self) -> int:
        assert not self.hangs
        return len(self.inside)


def test_no_fact_is_read_by_code_of_the_plug_ins() -> None:
    known, metrics = Slow({"--x": True}), Slow({})
    formats, quantizations = Slow({ModelFormat.GGUF: ("any",)}), Slow({})
    about = replace(
        description(), formats=formats, variants=(replace(VARIANT, quantizations=quantizations),)
    )
    plugin = Plain(description=about, flag_rules=FlagRules(known), metrics=metrics)
    facts = checked(plugin, "x", runs_itself=True)
    for one in (known, metrics, formats, quantizations):
        one.hangs = True
    assert facts.flag_rules.known == {"--x": True}
    assert facts.metrics == {}
    assert facts.description.formats == {ModelFormat.GGUF: ("any",)}
    assert facts.description.variants[0].quantizations == {}


class Waiting:
    """Even the question for what it has does not return."""

    def __init__(self, gate: threading.Event) -> None:
        self.gate = gate

    def __getattr__(self, name: str) -> object:
        self.gate.wait(DEADLINE_S)
        raise AttributeError(name)


def test_what_it_has_is_asked_with_a_limit(gate: threading.Event) -> None:
    facts = checked(Serving(), "x", runs_itself=True)
    found = PluggedEngine("the plug-in x", facts, Waiting(gate))
    assert found.runner is None
    assert found.hint(["x"]) == ""
    assert "did not return" in refused(found).message

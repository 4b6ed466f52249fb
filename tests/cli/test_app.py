"""Which commands are made for which arguments."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.core import TyperGroup

from runner.cli.app import ALIASES, COMMANDS, GROUPS, program
from tests.support.program import runner

NAMES = [name for commands in COMMANDS.values() for name in commands]


@pytest.mark.parametrize("name", [*NAMES, *ALIASES])
def test_a_command_is_the_same_alone_as_among_all(name: str) -> None:
    alone = program(name.split()).commands
    among = program([]).commands
    assert {found.partition(" ")[0] for found in alone} == {name.partition(" ")[0]}
    assert [p.name for p in alone[name].params] == [p.name for p in among[name].params]


@pytest.mark.parametrize("name", GROUPS)
def test_a_group_brings_its_commands(name: str) -> None:
    alone, among = program([name]).commands, program([]).commands
    assert list(alone) == [name]
    one, same = alone[name], among[name]
    assert isinstance(one, TyperGroup)
    assert isinstance(same, TyperGroup)
    assert list(one.commands) == list(same.commands) != []


@pytest.mark.parametrize("arguments", [[], ["pss"], ["--help"], ["-h", "ls"]])
def test_other_arguments_get_all(arguments: list[str]) -> None:
    found = program(arguments)
    assert set(found.commands) == {*NAMES, *ALIASES, *GROUPS}
    assert "install_completion" in {parameter.name for parameter in found.params}


def test_a_shell_is_told_the_commands() -> None:
    asked = {"_RUNNER_COMPLETE": "complete_bash", "COMP_WORDS": "runner in", "COMP_CWORD": "1"}
    done = subprocess.run(
        [Path(sys.executable).with_name("runner")],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["inspect", "install-runner"]


def test_the_nearest_command_is_named() -> None:
    done = runner("pss")
    assert done.returncode == 2
    assert "Did you mean 'ps'?" in done.stderr
    assert " runner ps [OPTIONS]" in runner("ps", "--help").stdout

"""What the system's refusals are followed by."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner.cli.next_step import unusable, with_next_step
from runner.errors import BadInput, RegistryError
from tests.support.program import runner


def refused(number: int, path: Path) -> str:
    return unusable(OSError(number, os.strerror(number), str(path))).hint


def test_the_setting_that_moves_the_folder_is_named(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    denied = "set {} to a folder that you may use"
    assert refused(errno.EACCES, home / "models") == denied.format("RUNNER_HOME")
    assert refused(errno.EROFS, home.parent) == denied.format("RUNNER_HOME")
    monkeypatch.setenv("RUNNER_MODELS_PATH", str(tmp_path / "moved"))
    assert refused(errno.EACCES, tmp_path / "moved" / "x") == denied.format("models_path")
    assert refused(errno.EACCES, home / "run") == denied.format("RUNNER_HOME")
    assert "or free some space" in refused(errno.ENOSPC, home / "run")


def test_other_files_are_their_owners(home: Path) -> None:
    assert refused(errno.EACCES, Path("/nowhere/x")) == "`ls -ld /nowhere/x` shows who may use it"
    assert refused(errno.ENOSPC, Path("/nowhere/x")) == "free some space there"


def test_the_output_is_no_folder_of_ours(home: Path) -> None:
    error = unusable(OSError(errno.ENOSPC, "No space left on device"))
    assert "RUNNER_HOME" not in error.hint
    assert "the output" in error.message


def test_only_files_refusals_are_explained(home: Path) -> None:
    lost = RegistryError("no registry answers")
    lost.__cause__ = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
    assert with_next_step(lost).hint == ""
    told = BadInput("can't", hint="do this")
    told.__cause__ = FileNotFoundError(errno.ENOENT, "gone", "/nowhere/x")
    assert with_next_step(told).hint == "do this"


def test_a_full_output_is_told_so(home: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "runner", "ls"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 8
    assert done.stderr.startswith("runner: can't write the output: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", [["ls"], ["ls", "--help"], ["config"]])
def test_a_pipe_that_nobody_reads_ends_quietly(home: Path, command: list[str]) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    done = subprocess.run(
        [sys.executable, "-m", "runner", *command],
        stdout=writes,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writes)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["package", "--gguf", "{}/none.gguf", "x"], "{} has no none.gguf"),
        (["package", "--gguf", "{}", "x"], "name a file in it"),
        (["package", "--gguf", "{}/file", "x"], "--safetensors"),
        (["package", "--safetensors", "{}/none", "x"], "{} has no none"),
        (["import", "{}/none.tar"], "{} has no none.tar"),
        (["import", "{}/none/x.tar"], "or make the folder {}/none"),
    ],
)
def test_files_that_cannot_be_have_a_next_step(
    home: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    (tmp_path / "file").write_text("no model")
    done = runner(*(argument.format(tmp_path) for argument in arguments))
    assert done.returncode == 2
    assert ". Next: " in done.stderr
    assert said.format(tmp_path) in done.stderr

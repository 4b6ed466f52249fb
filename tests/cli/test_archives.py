"""Models carried by hand: `runner export` and `runner import`, by file, pipe and folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from runner.demo import gguf_path
from tests.cli.terminal import on_a_terminal
from tests.support.program import DEADLINE_S, runner, succeed

MODEL = "localhost:5000/demo:1"
OTHER = "myorg/other:2"


@pytest.fixture
def digest(home: Path) -> str:
    return succeed("package", "--gguf", str(gguf_path()), MODEL).strip()


def tags() -> list[str]:
    return [row.split()[0] for row in succeed("ls").splitlines()[1:]]


def test_a_file_carries_models_to_another_home(digest: str, tmp_path: Path) -> None:
    archive = tmp_path / "models.tar"
    succeed("package", "--from", MODEL, "--context-size", "512", OTHER)
    assert succeed("export", MODEL, OTHER, "-o", str(archive)) == ""
    other = {"RUNNER_HOME": str(tmp_path / "other")}
    imported = succeed("import", str(archive), env=other).split()
    assert imported[0] == digest
    assert len(imported) == 2
    assert json.loads(succeed("ls", "--json", env=other)) == json.loads(succeed("ls", "--json"))


def test_a_pipe_carries_a_model(digest: str, tmp_path: Path) -> None:
    variables = {**os.environ, "RUNNER_HOME": str(tmp_path / "other")}
    command = [sys.executable, "-m", "runner"]
    with subprocess.Popen([*command, "export", MODEL], stdout=subprocess.PIPE) as export:
        done = subprocess.run(
            [*command, "import", "-"],
            stdin=export.stdout,
            env=variables,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=True,
        )
    assert export.returncode == 0
    assert done.stdout.strip() == digest
    assert MODEL in done.stderr


def test_a_dash_means_stdout(digest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with (tmp_path / "x.tar").open("wb") as archive:
        command = [sys.executable, "-m", "runner", "export", MODEL, "-o", "-"]
        subprocess.run(command, stdout=archive, timeout=DEADLINE_S, check=True)
    assert [path.name for path in tmp_path.glob("*")] == ["x.tar"]
    succeed("purge", "--force")
    assert succeed("import", "x.tar").strip() == digest


def test_a_layout_without_a_name_gets_one(digest: str, tmp_path: Path) -> None:
    succeed("export", digest, "-o", str(tmp_path / "x.tar"))
    with tarfile.open(tmp_path / "x.tar") as archive:
        archive.extractall(tmp_path / "layout", filter="data")
    succeed("purge", "--force")
    assert succeed("import", str(tmp_path / "layout"), "--as", OTHER).strip() == digest
    assert tags() == [OTHER]


def test_one_of_several_is_chosen(digest: str, tmp_path: Path) -> None:
    succeed("package", "--from", MODEL, "--context-size", "512", OTHER)
    succeed("export", MODEL, OTHER, "-o", str(tmp_path / "x.tar"))
    succeed("purge", "--force")
    succeed("import", str(tmp_path / "x.tar"), OTHER)
    assert tags() == [OTHER]


def test_terminals_get_no_archive(digest: str) -> None:
    assert "add -o FILE.tar" in on_a_terminal(["export", MODEL], [])
    assert "no archive comes" in on_a_terminal(["import", "-"], [])


@pytest.mark.parametrize("content", [b"", b"no archive at all", bytes(1 << 20)])
def test_what_is_no_archive_is_refused(home: Path, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.tar"
    file.write_bytes(content)
    refused = runner("import", str(file))
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
    assert runner("import", str(tmp_path / "nowhere.tar")).returncode == 2
    assert tags() == []


def test_a_failed_export_leaves_no_file(digest: str, tmp_path: Path) -> None:
    target = tmp_path / "x.tar"
    assert runner("export", "nobody/nothing", "-o", str(target)).returncode == 3
    assert runner("export", MODEL, "-o", str(tmp_path / "none" / "x.tar")).returncode == 2
    assert list(tmp_path.glob("*.tar")) == []

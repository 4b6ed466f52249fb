"""The wheel: what `pip install` brings is all that the runner needs at run time."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    (made,) = folder.glob("*.whl")
    return made


def shipped(folder: str) -> dict[str, bytes]:
    """A folder of the tree as it should travel, by path below it."""
    top = ROOT / folder
    files = [file for file in top.rglob("*") if file.is_file() and file.suffix != ".pyc"]
    return {file.relative_to(top).as_posix(): file.read_bytes() for file in files}


@pytest.mark.parametrize(("folder", "inside"), [("images", "runner/images"), ("runner", "runner")])
def test_the_wheel_holds_the_whole_folder(wheel: Path, folder: str, inside: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    wanted = {f"{inside}/{name}": content for name, content in shipped(folder).items()}
    assert wanted
    assert [name for name, content in wanted.items() if held.get(name) != content] == []


def test_the_wheel_holds_the_demo_model(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    files = {"demo-f16.gguf", "demo-q8_0.gguf", "questions.json"}
    files |= {f"huggingface/{name}" for name in ("model.safetensors", "config.json")}
    assert {f"runner/demo/{name}" for name in files} - names == set()


def test_the_wheel_has_the_command_and_the_license(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (points,) = (name for name in names if name.endswith(".dist-info/entry_points.txt"))
        assert "runner = runner.__main__:main" in archive.read(points).decode()
    assert [name for name in names if name.endswith("/licenses/LICENSE")]


def test_the_wheel_finds_its_images(wheel: Path, tmp_path: Path) -> None:
    """Unpacked elsewhere, it has the variants of the tree."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    program = "from runner.engines.catalog import catalog; print(*(v.folder for v in catalog()))"
    found = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    folders = [Path(folder) for folder in found.stdout.split()]
    assert folders
    assert all(folder.is_relative_to(tmp_path / "runner" / "images") for folder in folders)

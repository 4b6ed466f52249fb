"""What is committed beside llama.cpp's Dockerfiles, against the source and the image it is of."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from runner.engines.catalog import description_of
from tests.images.dockerfiles import read

ABOUT = description_of("llama.cpp")
FOLDER = ABOUT.variants[0].context / "llama.cpp"
VERSION = ABOUT.variants[0].version
CONFINED = ("--rm", "--label", "runner.test=1", "--network", "none", "--read-only")


def run(image: str, program: str, *arguments: str) -> bytes:
    command = ["docker", "run", *CONFINED, "--entrypoint", program, image, *arguments]
    return subprocess.run(command, capture_output=True, check=True).stdout


def test_all_variants_are_of_one_version() -> None:
    assert {variant.version for variant in ABOUT.variants} == {VERSION}


@pytest.mark.docker
def test_the_server_knows_every_architecture_of_the_list(engine_image: str) -> None:
    """Each name stands in the library as a text, or as the end of one: compilers merge those."""
    packed = run(engine_image, "tar", "--create", "--dereference", "--to-stdout", "/engine/bin")
    with tarfile.open(fileobj=BytesIO(packed)) as archive:
        names = [name for name in archive.getnames() if "/libllama.so" in name]
        member = archive.extractfile(names[0])
        assert member is not None
        library = member.read()
    assert len(ABOUT.architectures) > 100
    assert [
        name for name in sorted(ABOUT.architectures) if name.encode() + b"\0" not in library
    ] == []


@pytest.mark.docker
def test_the_captured_help_is_the_servers_own(engine_image: str) -> None:
    lines = (FOLDER / "help.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    header = [line for line in lines if line.startswith("#")]
    assert header[0] == f"# llama.cpp {VERSION}\n"
    live = run(engine_image, "/engine/bin/llama-server", "--help").decode()
    assert "".join(lines[len(header) :]) == live


@pytest.mark.slow
def test_the_list_of_architectures_is_that_of_the_pinned_source(tmp_path: Path) -> None:
    version = read(FOLDER / "cpu" / "Dockerfile").stages[1].arguments["SDIST_VERSION"]
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary"]
    subprocess.run(
        [*download, "llama-cpp-python", "--dest", tmp_path, f"llama-cpp-python=={version}"],
        check=True,
    )
    (archive,) = tmp_path.glob("*.tar.gz")
    made = subprocess.run(
        [sys.executable, FOLDER / "architectures.py", archive], stdout=subprocess.PIPE, check=True
    )
    assert made.stdout.decode() == (FOLDER / "architectures.txt").read_text(encoding="utf-8")


def test_another_archive_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "llama_cpp_python-0.3.36.tar.gz"
    archive.write_bytes(b"something else")
    refused = subprocess.run(
        [sys.executable, FOLDER / "architectures.py", archive],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert "not the pinned" in refused.stderr

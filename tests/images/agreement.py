"""Does an image say of itself what engine.yaml says, and hold the very files that it lists?"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from runner.engines.description import EngineDescription, Variant
from runner.engines.manifest import MANIFEST, ListedFile, Manifest, disagreements, read_manifest

FOLDER = PurePosixPath(MANIFEST).parent.relative_to("/")
OWN_USER = "10001:10001"


def check_agreement(image: str, about: EngineDescription, variant: Variant) -> Manifest:
    """Labels, manifest, checksums recomputed from an export, user, health check and entrypoint."""
    configuration = _configuration(image)
    content, files = exported(image)
    assert disagreements(about, variant, configuration["Labels"], content) == ()
    assert content is not None
    manifest = read_manifest(content)
    assert [file.path for file in manifest.files] == sorted(file.path for file in files)
    assert set(manifest.files) == files
    assert configuration["User"] == OWN_USER
    assert configuration["Entrypoint"]
    assert (configuration.get("Healthcheck") or {"Test": ["NONE"]})["Test"] == ["NONE"]
    return manifest


def exported(image: str) -> tuple[bytes | None, frozenset[ListedFile]]:
    """The manifest as it is, and every other regular file beside and below it, as found."""
    found: dict[str, ListedFile] = {}
    manifest = None
    container = _docker("create", "--label", "runner.test=1", "--network", "none", image)
    try:
        with subprocess.Popen(["docker", "export", container], stdout=subprocess.PIPE) as process:
            for path, member, content in _members(process):
                if f"/{member.name}" == MANIFEST:
                    manifest = content
                elif member.islnk():
                    first = PurePosixPath(member.linkname).relative_to(FOLDER).as_posix()
                    found[path] = ListedFile(path, found[first].size, found[first].sha256)
                elif member.isreg():
                    digest = hashlib.sha256(content).hexdigest()
                    found[path] = ListedFile(path, member.size, digest)
        assert process.returncode == 0
    finally:
        _docker("rm", "--force", container)
    return manifest, frozenset(found.values())


def _members(process: subprocess.Popen[bytes]) -> Iterator[tuple[str, tarfile.TarInfo, bytes]]:
    """What is in the manifest's folder, with its path below that; read as it comes."""
    with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
        for member in archive:
            path = PurePosixPath(member.name)
            if path.is_relative_to(FOLDER):
                opened = archive.extractfile(member) if member.isreg() else None
                content = opened.read() if opened else b""
                yield path.relative_to(FOLDER).as_posix(), member, content


def _configuration(image: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(
        _docker("image", "inspect", "--format", "{{json .Config}}", image)
    )
    return read


def _docker(*arguments: str) -> str:
    ran = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()

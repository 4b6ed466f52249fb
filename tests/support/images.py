"""The images that container tests use: which base there is, and the engine built on it."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from threading import Event

from runner.dockerhost import DockerHost
from runner.installs.build import build
from runner.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
ENGINE_FOLDER = ROOT / "images" / "llama.cpp" / "cpu"
OFFICIAL_BASE = "debian:bookworm-slim"


def base_image() -> str:
    """What .ci/base-image says: the official base, or where none can be had one made here."""
    found = subprocess.run(
        ["sh", ROOT / ".ci" / "base-image"], stdout=subprocess.PIPE, text=True, check=True
    )
    return found.stdout.strip()


def image_id(reference: str) -> str | None:
    found = subprocess.run(
        ["docker", "image", "inspect", "--format", "{{.Id}}", reference],
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() if found.returncode == 0 else None


def engine_tag(base: str) -> str:
    """Named by what goes in, so that an image is reused for as long as a build would repeat it."""
    content = hashlib.sha256(str(image_id(base)).encode())
    for file in sorted(ENGINE_FOLDER.rglob("*")):
        if file.is_file():
            content.update(file.relative_to(ENGINE_FOLDER).as_posix().encode())
            content.update(hashlib.sha256(file.read_bytes()).digest())
    return f"runner-test/llama.cpp:{content.hexdigest()[:16]}"


def build_settings(base: str) -> Settings:
    """This machine's base, authority and package index: how it is built, not what."""
    contexts = {} if base == OFFICIAL_BASE else {OFFICIAL_BASE: f"docker-image://{base}"}
    return Settings(
        build_contexts=contexts,
        build_secrets=dict(_named_file("pip", "PIP_CONFIG_FILE")),
        ca_file=next((path for _, path in _named_file("ca", "SSL_CERT_FILE", "PIP_CERT")), None),
    )


def build_engine(tag: str, base: str) -> None:
    """Builds images/llama.cpp/cpu as `install-runner` does; its steps go to the terminal."""
    build(ENGINE_FOLDER, tag, build_settings(base), DockerHost().url, _tell, Event())


def _tell(step: str) -> None:
    print(step, flush=True)


def _named_file(secret: str, *variables: str) -> Iterator[tuple[str, Path]]:
    for variable in variables:
        path = Path(os.environ.get(variable, ""))
        if path.is_file():
            yield secret, path.absolute()

"""The images that container tests use: which base there is, and the engines built on it."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from threading import Event

from runner.dockerhost import DockerHost
from runner.engines.catalog import description_of
from runner.engines.description import Variant
from runner.installs.build import build
from runner.installs.content import content_key
from runner.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "images"
ENGINE_FOLDER = IMAGES / "llama.cpp" / "cpu"
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


def engine_tag(base: str, folder: Path = ENGINE_FOLDER) -> str:
    """Named by what goes in, so that an image is reused for as long as a build would repeat it.

    `folder` is a variant's, such as images/vllm/cpu.
    """
    content = f"{image_id(base)} {content_key(_variant(folder))}"
    return f"runner-test/{folder.parent.name}:{hashlib.sha256(content.encode()).hexdigest()[:16]}"


def _variant(folder: Path) -> Variant:
    found = description_of(folder.parent.name).variant(folder.name)
    assert found is not None, folder
    return found


def built_engine(base: str, folder: Path) -> str:
    """The tag of a variant's image, built where this content never was."""
    tag = engine_tag(base, folder)
    if image_id(tag) is None:
        build_engine(tag, base, folder)
    return tag


def build_settings(base: str) -> Settings:
    """This machine's base, authority and package index: how it is built, not what."""
    contexts = {} if base == OFFICIAL_BASE else {OFFICIAL_BASE: f"docker-image://{base}"}
    return Settings(
        build_contexts={**contexts, **dict(_wheels())},
        build_secrets=dict(_named_file("pip", "PIP_CONFIG_FILE")),
        ca_file=next((path for _, path in _named_file("ca", "SSL_CERT_FILE", "PIP_CERT")), None),
    )


def build_engine(tag: str, base: str, folder: Path = ENGINE_FOLDER) -> None:
    """Builds a variant as `install-runner` does; its steps go to the terminal."""
    build(_variant(folder), tag, build_settings(base), DockerHost().url, _tell, Event())


def _tell(step: str) -> None:
    print(step, flush=True)


def _wheels() -> Iterator[tuple[str, str]]:
    """Wheels that pip finds in a folder of this machine; pip's other local sources are not there
    inside a build, and are left out with a warning."""
    for place in os.environ.get("PIP_FIND_LINKS", "").split():
        if any(Path(place).glob("torch-*.whl")):
            yield "wheels", place
            return


def _named_file(secret: str, *variables: str) -> Iterator[tuple[str, Path]]:
    for variable in variables:
        path = Path(os.environ.get(variable, ""))
        if path.is_file():
            yield secret, path.absolute()

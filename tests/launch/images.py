"""The small image that launcher tests start in place of an engine's."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from tests.support.images import OFFICIAL_BASE, image_id

PROBE_FOLDER = Path(__file__).parent / "probe"


def probe_image(base: str) -> str:
    """Its tag; built once for its content and kept, as the base image is."""
    content = hashlib.sha256(str(image_id(base)).encode())
    for file in [*sorted(PROBE_FOLDER.glob("*.py")), PROBE_FOLDER / "Dockerfile"]:
        content.update(file.read_bytes())
    tag = f"runner-test/probe:{content.hexdigest()[:16]}"
    if image_id(tag) is None:
        context = f"{OFFICIAL_BASE}=docker-image://{base}"
        contexts = ("--build-context", context) if base != OFFICIAL_BASE else ()
        command = ["docker", "buildx", "build", "--load", "--tag", tag, *contexts]
        subprocess.run([*command, str(PROBE_FOLDER)], check=True, timeout=600)
    return tag

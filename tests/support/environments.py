"""The MLX environment that tests use: made as `install-runner` does, kept for as long as its lock,
its Python and its check are the same."""

from __future__ import annotations

import hashlib
import sys
import tempfile
import threading
from pathlib import Path

from runner.engines.catalog import description_of
from runner.engines.description import Variant
from runner.installs.environments import Environment, Environments
from tests.support.images import OFFICIAL_BASE, build_settings


def mlx_variant() -> Variant:
    variant = description_of("mlx-lm").variant("cpu")
    assert variant is not None
    return variant


def mlx_environment() -> Environment:
    """From the package index that pip is configured for, once for each content."""
    variant = mlx_variant()
    content = hashlib.sha256(f"{sys.version}{sys.prefix}".encode())
    for file in (variant.folder / "requirements.txt", variant.folder.parent / "check.py"):
        content.update(file.read_bytes())
    kept = Path(tempfile.gettempdir()) / f"runner-test-environments-{content.hexdigest()[:16]}"
    settings = build_settings(OFFICIAL_BASE)
    return Environments(kept, settings).make(variant, _tell, threading.Event())


def _tell(step: str) -> None:
    print(step, flush=True)

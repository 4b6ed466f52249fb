"""Programs that tests meet as independent peers."""

from __future__ import annotations

import os
import shutil

import pytest


def on_ci() -> bool:
    return os.environ.get("CI", "false").lower() not in {"", "0", "false"}


def tool(name: str) -> str:
    """The path of a program; without it the test is skipped, and fails on CI."""
    path = shutil.which(name)
    if path is None:
        reason = f"{name} is missing here (.ci/docker-up brings it to Debian)"
        if on_ci():
            pytest.fail(reason)
        pytest.skip(reason)
    return path

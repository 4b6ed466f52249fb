"""Programs and libraries that tests meet as independent peers."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from typing import NoReturn

import pytest


def on_ci() -> bool:
    return os.environ.get("CI", "false").lower() not in {"", "0", "false"}


def tool(name: str) -> str:
    """The path of a program; without it the test is skipped, and fails on CI."""
    path = shutil.which(name)
    if path is None:
        _is_missing(f"{name} is missing here (.ci/docker-up brings it to Debian)")
    return path


def require_library(name: str) -> None:
    """Without this package, which is not made for every machine, the test is skipped, and fails on
    CI."""
    if find_spec(name) is None:
        _is_missing(f"{name} is missing here (pip install '.[test]')")


def _is_missing(reason: str) -> NoReturn:
    if on_ci():
        pytest.fail(reason)
    pytest.skip(reason)

"""Where the files of a model may lie."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.artifacts.layer_paths import check_paths, safe_path
from runner.errors import BadModelFile


@pytest.mark.parametrize(
    "path", ["", "a", "a/b.c", "…", "ä/b c", "a..b", ".hidden", "ab:c", "x" * 255]
)
def test_safe_ones(path: str) -> None:
    assert safe_path(path) == path


def test_a_leading_dot_is_dropped() -> None:
    assert safe_path("./a/b") == "a/b"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../../etc/x", "leads out"),
        ("a/../b", "leads out"),
        ("..", "leads out"),
        ("/etc/x", "leads out"),
        ("C:x", "leads out"),
        ("C:/x", "leads out"),
        ("a\\b", "leads out"),
        (".", "no usable"),
        ("./", "no usable"),
        ("././a", "no usable"),
        ("a/./b", "no usable"),
        ("a//b", "no usable"),
        ("a/", "no usable"),
        ("a\nb", "no usable"),
        ("a\0", "no usable"),
        ("a\u202eb", "no usable"),
        ("\ud800", "no usable"),
        ("x" * 256, "too long"),
        ("ä" * 128, "too long"),
        ("/".join(["xx"] * 500), "too long"),
        (7, "no text"),
    ],
)
def test_unsafe_ones(path: object, reason: str) -> None:
    with pytest.raises(BadModelFile, match=reason):
        safe_path(path)


@given(st.text(alphabet="ab./\\:~-\0", max_size=12))
def test_safe_paths_stay_inside(path: str) -> None:
    try:
        safe = safe_path(path)
    except BadModelFile:
        return
    assert os.path.normpath(f"/model/{safe}").startswith("/model")
    assert safe == path.removeprefix("./")


def test_paths_that_fit_together() -> None:
    check_paths(["a", "b/a", "b/c", "ab/c", "A"])


@pytest.mark.parametrize(
    ("paths", "reason"),
    [
        (["a/b", "x", "a/b"], "share the path 'a/b'"),
        (["\u00e4", "a\u0308"], "share the path"),
        (["a", "a/b"], "'a' is a file and the folder of 'a/b'"),
        (["a/b/c/d", "a/b"], "'a/b' is a file and the folder of 'a/b/c/d'"),
        (["\u00e4", "a\u0308/b"], "is a file and the folder"),
    ],
)
def test_paths_that_clash(paths: list[str], reason: str) -> None:
    with pytest.raises(BadModelFile, match=reason):
        check_paths(paths)

"""The state file: installs come back as written, and a newer file is refused."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from runner.errors import SchemaTooNew, Unavailable
from runner.state import SCHEMA, Install, State

CPU = Install(
    engine="llama.cpp",
    variant="cpu",
    version="b1",
    image="sha256:aa",
    manifest_digest="",
    config_digest="sha256:aa",
    diff_ids=("sha256:1", "sha256:2"),
    source="built",
    size=42,
    installed_at=7,
)


def test_installs_come_back_as_written(tmp_path: Path) -> None:
    file = tmp_path / "state.sqlite"
    State(file).record(CPU)
    State(file).record(replace(CPU, variant="cuda12"))
    assert State(file).installs() == (CPU, replace(CPU, variant="cuda12"))


def test_a_variant_is_recorded_once(tmp_path: Path) -> None:
    state = State(tmp_path / "state.sqlite")
    state.record(CPU)
    state.record(replace(CPU, version="b2"))
    assert [install.version for install in state.installs()] == ["b2"]
    state.forget("llama.cpp", "cpu")
    assert state.installs() == ()


def test_reading_makes_no_file(tmp_path: Path) -> None:
    assert State(tmp_path / "state.sqlite").installs() == ()
    assert not (tmp_path / "state.sqlite").exists()


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "state.sqlite"
    State(file).record(CPU)
    with closing(sqlite3.connect(file)) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    with pytest.raises(SchemaTooNew, match="newer runner"):
        State(file).installs()


def test_a_damaged_file_is_an_error_with_its_name(tmp_path: Path) -> None:
    file = tmp_path / "state.sqlite"
    file.write_bytes(b"no database at all " * 100)
    with pytest.raises(Unavailable, match=r"state\.sqlite"):
        State(file).installs()

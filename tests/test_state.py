"""The state file: what is written comes back, older files are upgraded, newer ones are refused."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest

from runner import state as module
from runner.errors import BadInput, SchemaTooNew, Unavailable
from runner.state import MAX_DOCUMENT, SCHEMA, ChoiceKind, Install, InstallKind, State

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
FIRST_SCHEMA = """
CREATE TABLE installs (
    engine TEXT NOT NULL,
    variant TEXT NOT NULL,
    version TEXT NOT NULL,
    image TEXT NOT NULL,
    manifest_digest TEXT NOT NULL,
    config_digest TEXT NOT NULL,
    diff_ids TEXT NOT NULL,
    source TEXT NOT NULL,
    size INTEGER NOT NULL,
    installed_at INTEGER NOT NULL,
    PRIMARY KEY (engine, variant)
) STRICT;
INSERT INTO installs VALUES (
    'llama.cpp', 'cpu', 'b1', 'sha256:aa', '', 'sha256:aa', '["sha256:1", "sha256:2"]', 'built',
    42, 7
);
PRAGMA user_version = 1;
"""
"""What the first version of runner has written."""

WRITERS = 4
EACH = 15
PROCESSES = 3


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite"


@pytest.fixture
def old(file: Path) -> Path:
    with closing(sqlite3.connect(file)) as db:
        db.executescript(FIRST_SCHEMA)
    return file


def _schema(file: Path) -> int:
    with closing(sqlite3.connect(file)) as db:
        (schema,) = db.execute("PRAGMA user_version").fetchone()
    return int(schema)


def test_installs_come_back_as_written(file: Path) -> None:
    environment = replace(CPU, variant="cuda12", kind=InstallKind.ENVIRONMENT)
    State(file).record(CPU)
    State(file).record(environment)
    assert State(file).installs() == (CPU, environment)


def test_a_variant_is_recorded_once(file: Path) -> None:
    state = State(file)
    state.record(CPU)
    state.record(replace(CPU, version="b2"))
    assert [install.version for install in state.installs()] == ["b2"]
    state.forget(replace(CPU, image="sha256:older"))
    assert len(state.installs()) == 1
    state.forget(CPU)
    assert state.installs() == ()


def test_reading_makes_no_file(file: Path) -> None:
    assert State(file).installs() == ()
    assert State(file).configurations() == {}
    assert State(file).choices(ChoiceKind.FORMAT) == {}
    assert not file.exists()


def test_a_newer_schema_is_refused(file: Path) -> None:
    State(file).record(CPU)
    with closing(sqlite3.connect(file)) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    tries: list[Callable[[], object]] = [
        State(file).installs,
        State(file).configurations,
        lambda: State(file).record(CPU),
        lambda: State(file).choose(ChoiceKind.FORMAT, "gguf", "vllm"),
    ]
    for attempt in tries:
        with pytest.raises(SchemaTooNew, match="newer runner") as caught:
            attempt()
        assert "RUNNER_HOME" in caught.value.hint
    assert _schema(file) == SCHEMA + 1


def test_a_damaged_file_is_an_error_with_its_name(file: Path) -> None:
    file.write_bytes(b"no database at all " * 100)
    with pytest.raises(Unavailable, match=r"state\.sqlite"):
        State(file).installs()


# Upgrades


def test_a_file_of_the_first_version_is_upgraded_with_its_rows(old: Path) -> None:
    assert State(old).installs() == (CPU,)
    assert _schema(old) == SCHEMA
    State(old).record(replace(CPU, variant="native", kind=InstallKind.ENVIRONMENT))
    State(old).choose(ChoiceKind.VARIANT, "llama.cpp", "cpu")
    State(old).configure("m", "", lambda _: "{}")
    assert [install.kind for install in State(old).installs()] == ["image", "environment"]
    assert State(old).configurations() == {("m", ""): "{}"}


@pytest.mark.parametrize(
    "read",
    [
        lambda state: state.configurations(),
        lambda state: state.choices(ChoiceKind.FALLBACK),
    ],
)
def test_whatever_is_read_first_upgrades(old: Path, read: Callable[[State], object]) -> None:
    assert read(State(old)) == {}
    assert State(old).installs() == (CPU,)


def test_an_upgraded_file_is_as_a_new_one(old: Path, tmp_path: Path) -> None:
    State(old).installs()
    State(tmp_path / "new.sqlite").record(CPU)
    columns = []
    for file in (old, tmp_path / "new.sqlite"):
        with closing(sqlite3.connect(file)) as db:
            names = [row[0] for row in db.execute("SELECT name FROM sqlite_master ORDER BY name")]
            columns.append(
                {name: db.execute(f"PRAGMA table_info({name})").fetchall() for name in names}
            )
    assert columns[0] == columns[1]


def test_an_upgrade_that_fails_changes_nothing(old: Path) -> None:
    """Here in its last step: something else has the name of a new table."""
    with closing(sqlite3.connect(old)) as db:
        db.execute("CREATE INDEX choices ON installs (version)")
        before = list(db.execute("SELECT * FROM sqlite_master"))
    with pytest.raises(Unavailable, match=r"can't use .*state\.sqlite"):
        State(old).installs()
    assert _schema(old) == 1
    with closing(sqlite3.connect(old)) as db:
        assert list(db.execute("SELECT * FROM sqlite_master")) == before
        db.execute("DROP INDEX choices")
    assert State(old).installs() == (CPU,)


def test_several_programs_upgrade_at_once(old: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from runner.state import State; sys.stdin.read(1);"
        "print(len(State(Path(sys.argv[1])).installs()))"
    )
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(old)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(PROCESSES)
    ]
    with ThreadPoolExecutor(PROCESSES) as pool:
        said = list(pool.map(lambda program: program.communicate("\n", timeout=60)[0], programs))
    assert said == ["1\n"] * PROCESSES
    assert State(old).installs() == (CPU,)


# Configurations and choices


def test_a_configuration_is_what_the_change_makes_of_it(file: Path) -> None:
    state, seen = State(file), []

    def change(before: str, after: str) -> str:
        seen.append(before)
        return after

    assert state.configure("m", "", lambda before: change(before, "1")) == "1"
    state.configure("m", "", lambda before: change(before, "2"))
    state.configure("m", "vllm", lambda before: change(before, "3"))
    assert seen == ["", "1", ""]
    assert state.configurations() == {("m", ""): "2", ("m", "vllm"): "3"}
    state.configure("m", "", lambda before: change(before, ""))
    assert state.configurations() == {("m", "vllm"): "3"}


def test_a_change_that_is_refused_leaves_all_as_it_was(file: Path) -> None:
    def refuse(_: str) -> str:
        raise BadInput("no")

    State(file).configure("m", "", lambda _: "1")
    with pytest.raises(BadInput, match="no"):
        State(file).configure("m", "", refuse)
    assert State(file).configurations() == {("m", ""): "1"}
    State(file).configure("m", "", lambda before: before + "2")
    assert State(file).configurations() == {("m", ""): "12"}


def test_changes_at_the_same_time_all_count(file: Path) -> None:
    """Each adds one to what it finds."""
    together = Barrier(WRITERS)

    def add(_: int) -> None:
        together.wait()
        for _ in range(EACH):
            State(file).configure("m", "", lambda before: str(int(before or "0") + 1))

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(add, range(WRITERS)))
    assert State(file).configurations() == {("m", ""): str(WRITERS * EACH)}


def test_choices_are_kept_by_kind_until_they_are_taken_back(file: Path) -> None:
    state = State(file)
    state.choose(ChoiceKind.FORMAT, "gguf", "llama.cpp")
    state.choose(ChoiceKind.FORMAT, "gguf", "vllm")
    state.choose(ChoiceKind.FALLBACK, "gguf", "llama.cpp,vllm")
    assert state.choices(ChoiceKind.FORMAT) == {"gguf": "vllm"}
    assert state.choices(ChoiceKind.FALLBACK) == {"gguf": "llama.cpp,vllm"}
    assert state.choices(ChoiceKind.VARIANT) == {}
    state.choose(ChoiceKind.FORMAT, "gguf", "")
    assert State(file).choices(ChoiceKind.FORMAT) == {}
    assert State(file).choices(ChoiceKind.FALLBACK) == {"gguf": "llama.cpp,vllm"}


def test_it_is_for_its_owner_alone(file: Path) -> None:
    State(file).choose(ChoiceKind.FORMAT, "gguf", "vllm")
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o644)
    before = file.stat().st_mtime_ns
    assert State(file).choices(ChoiceKind.FORMAT)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.stat().st_mtime_ns == before


def test_too_much_is_not_kept(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = State(file)
    with pytest.raises(BadInput, match="more than 65536 bytes"):
        state.configure("m", "", lambda _: "ü" * (MAX_DOCUMENT // 2))
    with pytest.raises(BadInput, match="more than 65536 bytes"):
        state.choose(ChoiceKind.FALLBACK, "gguf", "x" * MAX_DOCUMENT)
    monkeypatch.setattr(module, "MAX_ROWS", 2)
    for name in ("a", "b"):
        state.configure(name, "", lambda _: "1")
        state.choose(ChoiceKind.FORMAT, name, "vllm")
    with pytest.raises(BadInput, match="2 configurations already"):
        state.configure("c", "", lambda _: "1")
    with pytest.raises(BadInput, match="2 choices already"):
        state.choose(ChoiceKind.FORMAT, "c", "vllm")
    state.configure("a", "", lambda _: "2")
    state.choose(ChoiceKind.FORMAT, "a", "llama.cpp")
    state.configure("b", "", lambda _: "")
    assert state.configurations() == {("a", ""): "2"}
    assert state.choices(ChoiceKind.FORMAT) == {"a": "llama.cpp", "b": "vllm"}

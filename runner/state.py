"""State that outlives the daemon, in one SQLite file: which engine images are installed here."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from runner.errors import DiskFull, SchemaTooNew, Unavailable

SCHEMA = 1
"""Raised with every change of the tables; an older program refuses a newer file."""

_TABLES = """
CREATE TABLE IF NOT EXISTS installs (
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
"""

_BUSY_S = 10.0


@dataclass(frozen=True, slots=True)
class Install:
    """An engine image that is present here, known across Docker hosts by its last two digests.

    `image` is what this Docker Engine starts it by, `source` the registry name it was pulled
    from or `built`, `manifest_digest` "" where it was built, `size` in bytes.
    """

    engine: str
    variant: str
    version: str
    image: str
    manifest_digest: str
    config_digest: str
    diff_ids: Sequence[str]
    source: str
    size: int
    installed_at: int


class State:
    """Opens the file for each call: several programs share it. Raises SchemaTooNew, Unavailable."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def installs(self) -> tuple[Install, ...]:
        if not self._file.exists():
            return ()
        with self._open() as db:
            rows = db.execute("SELECT * FROM installs ORDER BY engine, variant").fetchall()
        return tuple(_install(row) for row in rows)

    def record(self, install: Install) -> None:
        """Writes an install, in place of an older one of the same variant."""
        values = (
            install.engine,
            install.variant,
            install.version,
            install.image,
            install.manifest_digest,
            install.config_digest,
            json.dumps(list(install.diff_ids)),
            install.source,
            install.size,
            install.installed_at,
        )
        marks = ", ".join("?" * len(values))
        with self._open() as db:
            db.execute(f"INSERT OR REPLACE INTO installs VALUES ({marks})", values)  # noqa: S608

    def forget(self, engine: str, variant: str) -> None:
        with self._open() as db:
            db.execute("DELETE FROM installs WHERE engine = ? AND variant = ?", (engine, variant))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self._file, timeout=_BUSY_S)) as db, db:
                self._prepare(db)
                yield db
        except sqlite3.Error as error:
            raise _translated(error, self._file) from error

    def _prepare(self, db: sqlite3.Connection) -> None:
        db.row_factory = sqlite3.Row
        (schema,) = db.execute("PRAGMA user_version").fetchone()
        if schema > SCHEMA:
            raise SchemaTooNew(
                f"{self._file} was written by a newer runner (schema {schema}, this one {SCHEMA})",
                hint="update runner, or set RUNNER_HOME to another folder",
            )
        if schema < SCHEMA:
            db.executescript(_TABLES)
            db.execute(f"PRAGMA user_version = {SCHEMA}")


def _install(row: sqlite3.Row) -> Install:
    values = {name: row[name] for name in row.keys()}  # noqa: SIM118 - a Row is no mapping
    return Install(**{**values, "diff_ids": tuple(json.loads(values["diff_ids"]))})


def _translated(error: sqlite3.Error, file: Path) -> Unavailable:
    if "full" in str(error):
        return DiskFull(f"no space left to write {file}", hint="free some space, then try again")
    return Unavailable(f"can't use {file}: {error}", hint="is it damaged, or not writable?")

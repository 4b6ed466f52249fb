"""State that outlives the daemon, in one SQLite file: installs, configured models, choices."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from runner.errors import BadInput, DiskFull, SchemaTooNew, Unavailable

SCHEMA = 2
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

_SINCE_2 = """
ALTER TABLE installs ADD COLUMN kind TEXT NOT NULL DEFAULT 'image';
CREATE TABLE IF NOT EXISTS configurations (
    model TEXT NOT NULL,
    engine TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (model, engine)
) STRICT;
CREATE TABLE IF NOT EXISTS choices (
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (kind, subject)
) STRICT;
"""

_STEPS = (_TABLES, _SINCE_2)
"""What leads from each schema to the next."""

_BUSY_S = 10.0
MAX_DOCUMENT = 64 * 1024
"""Bytes of one configuration or choice."""
MAX_ROWS = 10_000
"""Configurations, and choices: far more than anybody has models."""


class InstallKind(StrEnum):
    IMAGE = "image"
    ENVIRONMENT = "environment"


class ChoiceKind(StrEnum):
    """What a user has chosen for good."""

    FORMAT = "format"
    """A model format's engine."""
    VARIANT = "variant"
    """An engine's variant."""
    FALLBACK = "fallback"
    """The engines, by comma, that take over for a format or a model."""


@dataclass(frozen=True, slots=True)
class Install:
    """An engine variant that is present here. An image is known across Docker hosts by its
    `config_digest` and `diff_ids`; of an environment the first is the digest of its lock.

    `image` is what it is started by: an image's ID for this Docker Engine, or the environment's
    Python. `source` is the registry name it was pulled from or `built`, `manifest_digest` ""
    where it was built, `size` in bytes.
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
    kind: InstallKind = InstallKind.IMAGE


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
            install.kind.value,
        )
        marks = ", ".join("?" * len(values))
        with self._open() as db:
            db.execute(f"INSERT OR REPLACE INTO installs VALUES ({marks})", values)  # noqa: S608

    def configurations(self) -> Mapping[tuple[str, str], str]:
        """What was configured, as JSON texts by (model, engine); the engine is "" for any."""
        if not self._file.exists():
            return {}
        with self._open() as db:
            rows = db.execute("SELECT * FROM configurations ORDER BY model, engine").fetchall()
        return {(row["model"], row["engine"]): row["document"] for row in rows}

    def configure(self, model: str, engine: str, change: Callable[[str], str]) -> str:
        """Replaces a configuration by what `change` makes of it, both JSON texts and "" for
        none; returns what is kept. Nobody else writes meanwhile. Raises BadInput for too much."""
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            where = "WHERE model = ? AND engine = ?"
            found = db.execute(
                f"SELECT document FROM configurations {where}",  # noqa: S608
                (model, engine),
            ).fetchone()
            document = change(found["document"] if found else "")
            if document:
                if found is None:
                    _check_room(db, "configurations")
                _check_size("configuration", model, engine, document)
                row = (model, engine, document)
                db.execute("INSERT OR REPLACE INTO configurations VALUES (?, ?, ?)", row)
            else:
                db.execute(f"DELETE FROM configurations {where}", (model, engine))  # noqa: S608
        return document

    def choices(self, kind: ChoiceKind) -> Mapping[str, str]:
        """What was chosen, by subject."""
        if not self._file.exists():
            return {}
        with self._open() as db:
            rows = db.execute("SELECT * FROM choices WHERE kind = ?", (kind.value,)).fetchall()
        return {row["subject"]: row["value"] for row in rows}

    def choose(self, kind: ChoiceKind, subject: str, value: str) -> None:
        """Keeps a choice; an empty value takes it back. Raises BadInput for too much."""
        where = "kind = ? AND subject = ?"
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            if value:
                key = (kind.value, subject)
                if not db.execute(f"SELECT 1 FROM choices WHERE {where}", key).fetchone():  # noqa: S608
                    _check_room(db, "choices")
                _check_size("choice", subject, value)
                row = (kind.value, subject, value)
                db.execute("INSERT OR REPLACE INTO choices VALUES (?, ?, ?)", row)
            else:
                db.execute(f"DELETE FROM choices WHERE {where}", (kind.value, subject))  # noqa: S608

    def forget(self, install: Install) -> None:
        """Another install of the same variant, made meanwhile, stays."""
        key = (install.engine, install.variant, install.image)
        with self._open() as db:
            db.execute("DELETE FROM installs WHERE engine = ? AND variant = ? AND image = ?", key)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self._file, timeout=_BUSY_S)) as db, db:
                self._keep_private()
                self._prepare(db)
                yield db
        except sqlite3.Error as error:
            raise _translated(error, self._file) from error

    def _keep_private(self) -> None:
        """Variables that were configured may be secrets. By name, once SQLite has made it: to
        open and close the file besides would drop the locks that SQLite holds on it."""
        try:
            if self._file.stat().st_mode & 0o077:
                self._file.chmod(0o600)
        except OSError as error:
            raise _translated(error, self._file) from error

    def _prepare(self, db: sqlite3.Connection) -> None:
        db.row_factory = sqlite3.Row
        if self._schema(db) < SCHEMA:
            self._upgrade(db)

    def _schema(self, db: sqlite3.Connection) -> int:
        (schema,) = db.execute("PRAGMA user_version").fetchone()
        if schema > SCHEMA:
            raise SchemaTooNew(
                f"{self._file} was written by a newer runner (schema {schema}, this one {SCHEMA})",
                hint="update runner, or set RUNNER_HOME to another folder",
            )
        return int(schema)

    def _upgrade(self, db: sqlite3.Connection) -> None:
        """Step by step, all or nothing; another program may have done it meanwhile."""
        db.execute("BEGIN IMMEDIATE")
        for script in _STEPS[self._schema(db) :]:
            for statement in script.split(";\n"):
                if statement.strip():
                    db.execute(statement)
        db.execute(f"PRAGMA user_version = {SCHEMA}")
        db.commit()


def _install(row: sqlite3.Row) -> Install:
    values = {name: row[name] for name in row.keys()}  # noqa: SIM118 - a Row is no mapping
    read = {"diff_ids": tuple(json.loads(values["diff_ids"])), "kind": InstallKind(values["kind"])}
    return Install(**{**values, **read})


def _check_room(db: sqlite3.Connection, table: str) -> None:
    (rows,) = db.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
    if rows >= MAX_ROWS:
        raise BadInput(f"there are {rows} {table} already", hint="take out what is not used")


def _check_size(what: str, *texts: str) -> None:
    if sum(len(text.encode("utf-8", "replace")) for text in texts) > MAX_DOCUMENT:
        raise BadInput(f"a {what} of more than {MAX_DOCUMENT} bytes is not kept", hint="shorten it")


def _translated(error: sqlite3.Error | OSError, file: Path) -> Unavailable:
    if "full" in str(error):
        return DiskFull(f"no space left to write {file}", hint="free some space, then try again")
    return Unavailable(f"can't use {file}: {error}", hint="is it damaged, or not writable?")

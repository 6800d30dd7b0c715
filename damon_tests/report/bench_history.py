# SPDX-License-Identifier: GPL-2.0
"""The history of benchmark runs in one SQLite file: every sample of every run, in the order added."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from damon_tests.ports import HarnessError, UsageError
from damon_tests.report.bench_record import BenchRecord

SCHEMA = 1
_TABLES = """
CREATE TABLE runs (id INTEGER PRIMARY KEY, kernel TEXT NOT NULL, provenance TEXT NOT NULL);
CREATE TABLE samples (run INTEGER NOT NULL REFERENCES runs(id), metric TEXT NOT NULL, unit TEXT NOT NULL,
                      number INTEGER NOT NULL, value REAL NOT NULL, PRIMARY KEY (run, metric, number));
"""


@dataclass(frozen=True)
class Entry:
    """One run's samples of one metric."""

    run: int
    kernel: str
    unit: str
    values: tuple[float, ...]


def add(path: Path, record: BenchRecord) -> int:
    """Append a run and return its number; the file is made when it is missing.

    Raises UsageError for a file of another kind or schema, HarnessError when it cannot be written.
    """
    with _opened(path, create=True) as db:
        provenance = json.dumps(record.provenance, default=str)
        cursor = db.execute(
            "INSERT INTO runs (kernel, provenance) VALUES (?, ?)", (record.kernel, provenance)
        )
        run = int(cursor.lastrowid or 0)
        rows = [
            (run, m.metric, m.unit, i, value)
            for m in record.metrics.values()
            for i, value in enumerate(m.values)
        ]
        db.executemany("INSERT INTO samples VALUES (?, ?, ?, ?, ?)", rows)
    return run


def metrics(path: Path) -> list[str]:
    """Return the names of all metrics that any run has."""
    with _opened(path) as db:
        return [name for (name,) in db.execute("SELECT DISTINCT metric FROM samples ORDER BY metric")]


def read(path: Path, metric: str) -> list[Entry]:
    """The history of one metric, oldest run first. Raises UsageError for one that no run has."""
    with _opened(path) as db:
        rows = db.execute(
            "SELECT run, kernel, unit, value FROM samples JOIN runs ON runs.id = run"
            " WHERE metric = ? ORDER BY run, number",
            (metric,),
        ).fetchall()
    if not rows:
        known = ", ".join(metrics(path)) or "none"
        raise UsageError(f"{path} has no metric {metric!r}; it has {known}")
    entries: dict[int, Entry] = {}
    for run, kernel, unit, value in rows:
        before = entries.get(run)
        values = (*(before.values if before else ()), float(value))
        entries[run] = Entry(run, kernel, unit, values)
    return list(entries.values())


@contextmanager
def _opened(path: Path, *, create: bool = False) -> Iterator[sqlite3.Connection]:
    """A transaction: all or nothing is written."""
    if not create and not path.is_file():
        raise UsageError(f"{path}: no such history; damon-tests bench --history makes one")
    new = not path.exists() or path.stat().st_size == 0
    try:
        with closing(sqlite3.connect(path)) as db, db:
            if new:
                db.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {SCHEMA}; COMMIT;")
            (schema,) = db.execute("PRAGMA user_version").fetchone()
            if schema != SCHEMA:
                raise UsageError(f"{path} has schema {schema}; this version reads {SCHEMA}")
            yield db
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise HarnessError(f"{path}: {error}") from error
        raise UsageError(f"{path} is no history of benchmarks: {error}") from error

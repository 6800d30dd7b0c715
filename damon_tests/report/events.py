# SPDX-License-Identifier: GPL-2.0
"""``events.jsonl``: what happened in a run, one JSON object a line, written as it happens.

The file is only ever appended to. Every line is written with a single write(2) on a descriptor opened
with O_APPEND and forced to disk before the call returns, so that several workers (pytest-xdist) may share one
file on a local file system, and a crash costs at most the line being written. Every event has
``event`` (its name), ``time`` (seconds since the epoch) and ``worker`` ("main" or xdist's name):

``run_started``    ``provenance`` (any JSON object), ``require`` (whether skips fail), optionally
                   ``began``: when the run did, if that was earlier than ``time``
``test_started``   ``id``, ``backend``, ``level``
``attempt``        ``id``, ``attempt`` (from 1), ``seed``, ``timings`` {what: seconds}
``measurement``    ``id``, ``attempt`` (or null), ``measurement`` {name, value, unit, samples}
``check``          ``id``, ``attempt`` (or null),
                   ``check`` {kind, measurement, limit, reason, holds, detail, alpha, invariant}
``artifact``       ``id`` (null: of the run), ``attempt`` (or null), ``kind``, ``title``,
                   ``path`` (relative to the run)
``timing``         ``name``, ``seconds``: where time of the run went, added up by name
``test_finished``  ``id``, ``backend``, ``level``, ``verdict``, ``reason``, ``duration_s``
``run_finished``   ``interrupted``

Numbers that JSON does not have (NaN, infinities) are written as the strings "nan", "inf", "-inf".
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from damon_tests.judge.verdict import Check, Measurement, Verdict

EVENTS = "events.jsonl"
MAIN = "main"
"""The process that controls a run."""


class RunLog:
    """Appends the events of one run, from one process. Safe to use in several processes at once.

    Never raises: what cannot be written (a full disk) is in ``lost``, and nothing is written any more.
    """

    def __init__(self, directory: Path, worker: str = MAIN) -> None:
        self.directory = directory
        self.worker = worker
        self.lost = ""
        self._fd = -1
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._fd = self._open()
        except OSError as error:
            self._give_up(error)

    def _open(self) -> int:
        fd = os.open(self.directory / EVENTS, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":
            # An earlier process died while writing: its line must not swallow our first one.
            os.write(fd, b"\n")
        return fd

    def _give_up(self, error: OSError) -> None:
        self.lost = f"results cannot be written to {self.directory} ({error.strerror})"
        self.close()

    def run_started(
        self, provenance: Mapping[str, object], *, require: bool = False, began: float | None = None
    ) -> None:
        """``began``: when the run did, if that was before now; in seconds since the epoch."""
        time_fields = {} if began is None else {"began": began}
        self._write("run_started", provenance=dict(provenance), require=require, **time_fields)

    def test_started(self, test_id: str, backend: str, level: str) -> None:
        self._write("test_started", id=test_id, backend=backend, level=level)

    def attempt(
        self, test_id: str, attempt: int, seed: int, timings: Mapping[str, float] | None = None
    ) -> None:
        self._write("attempt", id=test_id, attempt=attempt, seed=seed, timings=dict(timings or {}))

    def measurement(self, test_id: str, measurement: Measurement, attempt: int | None = None) -> None:
        self._write("measurement", id=test_id, attempt=attempt, measurement=measurement_json(measurement))

    def check(self, test_id: str, check: Check, attempt: int | None = None) -> None:
        self._write("check", id=test_id, attempt=attempt, check=check_json(check))

    def artifact(
        self, test_id: str | None, path: Path | str, kind: str, title: str = "", attempt: int | None = None
    ) -> None:
        """``path``: below the run directory; ``kind`` a word such as recording, log, picture, dmesg,
        or figures: then its text is part of every report."""
        relative = os.path.relpath(path, self.directory) if os.path.isabs(path) else str(path)
        self._write("artifact", id=test_id, attempt=attempt, kind=kind, path=relative, title=title)

    def timing(self, name: str, seconds: float) -> None:
        self._write("timing", name=name, seconds=seconds)

    def test_finished(
        self, test_id: str, backend: str, level: str, verdict: Verdict, reason: str, duration_s: float
    ) -> None:
        self._write(
            "test_finished",
            id=test_id,
            backend=backend,
            level=level,
            verdict=str(verdict),
            reason=reason,
            duration_s=duration_s,
        )

    def run_finished(self, *, interrupted: bool = False) -> None:
        self._write("run_finished", interrupted=interrupted)

    def close(self) -> None:
        """May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, event: str, **fields: object) -> None:
        record = {"event": event, "time": time.time(), "worker": self.worker, **fields}
        text = json.dumps(plain(record), allow_nan=False, separators=(",", ":"))
        data = text.encode() + b"\n"
        if self.lost:
            return
        try:
            while data:  # a full disk takes a part first, and then says so
                data = data[os.write(self._fd, data) :]
            os.fdatasync(self._fd)
        except OSError as error:
            self._give_up(error)


def measurement_json(m: Measurement) -> dict[str, object]:
    # In JSON, true is no number; of a condition, 1 says that it was met.
    value = int(m.value) if isinstance(m.value, bool) else m.value
    return {"name": m.name, "value": value, "unit": m.unit, "samples": list(m.samples)}


def check_json(check: Check) -> dict[str, object]:
    return {
        "kind": check.kind,
        "measurement": measurement_json(check.measurement),
        "limit": check.limit,
        "reason": check.reason,
        "holds": check.holds,
        "detail": check.detail,
        "alpha": check.alpha,
        "attempts": check.attempts,
        "modelled": list(check.modelled),
        "invariant": check.invariant,
    }


def plain(value: Any) -> Any:
    """The value in JSON's types: numpy scalars become numbers, NaN and infinities become strings."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if isinstance(value, int) else str(value)

# SPDX-License-Identifier: GPL-2.0
"""Several runs as one: shards of a kernel's tests, or the same tests on several kernels.

The result has the shape of ``run.json``, so that everything that shows or judges a run takes a merged one.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from damon_tests.ports import UsageError
from damon_tests.report.model import SCHEMA

Json = dict[str, Any]


def merged(runs: Sequence[tuple[Path, Mapping[str, Any]]], into: Path) -> Json:
    """Return one run that has the tests of all ``runs`` (directory and content), in their order.

    Paths of artifacts become relative to ``into``. ``require`` and ``interrupted`` hold if they do for any
    run, ``complete`` if it does for all. Raises UsageError for a test that two runs have of the same
    DAMON: nobody could say which of its verdicts counts.
    """
    tests = [_test(test, directory, into) for directory, run in runs for test in run["tests"]]
    twice = [key for key, count in Counter((t["backend"], t["id"]) for t in tests).items() if count > 1]
    if twice:
        backend, test = twice[0]
        raise UsageError(
            f"{test} on {backend} is in more than one of the runs, and so are {len(twice) - 1} others:"
            " merge shards of one run, or runs of different kernels"
        )
    contents = [run for _, run in runs]
    started = [run["started"] for run in contents if run["started"] is not None]
    counts: Counter[str] = Counter()
    timings: Counter[str] = Counter()
    for run in contents:
        counts.update(run["counts"])
        timings.update(run["timings"])
    return {
        "schema": SCHEMA,
        "provenance": {"merged": [_provenance(directory, run, into) for directory, run in runs]},
        "started": min(started, default=None),
        "duration_s": sum(run["duration_s"] for run in contents),
        "complete": all(run["complete"] for run in contents),
        "interrupted": any(run["interrupted"] for run in contents),
        "require": any(run["require"] for run in contents),
        "counts": dict(counts),
        "tests": tests,
        "artifacts": [_artifact(a, directory, into) for directory, run in runs for a in run["artifacts"]],
        "timings": dict(timings),
        "problems": [f"{directory}: {problem}" for directory, run in runs for problem in run["problems"]],
    }


def _provenance(directory: Path, run: Mapping[str, Any], into: Path) -> Json:
    return {"directory": _relative(directory, into), "duration_s": run["duration_s"], **run["provenance"]}


def _test(test: Mapping[str, Any], directory: Path, into: Path) -> Json:
    """Return a test whose artifacts, and those of its attempts, are found from ``into``."""
    attempts = [
        {**attempt, "artifacts": [_artifact(a, directory, into) for a in attempt["artifacts"]]}
        for attempt in test["attempts"]
    ]
    artifacts = [_artifact(a, directory, into) for a in test["artifacts"]]
    return {**test, "attempts": attempts, "artifacts": artifacts}


def _artifact(artifact: Mapping[str, Any], directory: Path, into: Path) -> Json:
    return {**artifact, "path": _relative(directory / artifact["path"], into)}


def _relative(path: Path, into: Path) -> str:
    return os.path.relpath(path, into)

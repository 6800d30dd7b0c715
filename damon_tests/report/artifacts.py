# SPDX-License-Identifier: GPL-2.0
"""Files of a run: where they go, and what every attempt leaves behind.

``DIR/tests/<test>/attempt-<n>/`` has ``recording.npz`` (``damon.recording_file``, the truth of every
window beside it), ``kernel.log`` when the kernel said anything, and pictures of failures.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path

from damon_tests.damon import recording_file
from damon_tests.experiment.observation import Observation
from damon_tests.judge.spans import spans_of
from damon_tests.judge.windows import windows
from damon_tests.ports import NSEC_PER_SEC, NotSupported
from damon_tests.report import picture
from damon_tests.report.events import RunLog
from damon_tests.report.raster import raster

RUNS = "damon-tests-runs"

_TEXT_WIDTH = 120
_TEXT_ROWS = 32
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def new_directory(base: Path | None = None) -> Path:
    """A name for a run's directory that no other run has, below ``base`` (default: here). Not made yet."""
    parent = (base or Path.cwd()) / RUNS
    return parent / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"


def attempt_directory(run: Path, test_id: str, attempt: int) -> Path:
    """Made when needed. The test's id without characters that are special anywhere."""
    name = _UNSAFE.sub("_", test_id).strip("_")
    path = run / "tests" / name / f"attempt-{attempt}"
    path.mkdir(parents=True, exist_ok=True)
    return path


def keep_attempt(log: RunLog, test_id: str, seen: Observation) -> None:
    """Write what one attempt brought home, and tell the log. Called before anything is judged."""
    log.attempt(test_id, seen.attempt, seen.seed, seen.seconds)
    directory = attempt_directory(log.directory, test_id, seen.attempt)
    path = directory / "recording.npz"
    recording_file.save(
        path, seen.recording, spans_of(seen.truth, windows(seen.recording), seen.recording.sample_us)
    )
    log.artifact(test_id, path.relative_to(log.directory), "recording", attempt=seen.attempt)
    if seen.kernel_log.strip():
        keep_text(log, test_id, seen.attempt, "kernel.log", seen.kernel_log)


def keep_text(log: RunLog, test_id: str, attempt: int, name: str, text: str) -> Path:
    """A text file beside the attempt's other files; returns its path."""
    path = attempt_directory(log.directory, test_id, attempt) / name
    path.write_text(text, encoding="utf-8", errors="replace")
    log.artifact(test_id, path.relative_to(log.directory), "log", title=name, attempt=attempt)
    return path


def keep_picture(log: RunLog, test_id: str, seen: Observation) -> Path:
    """What DAMON saw beside what happened: as text always, as PNG where matplotlib is installed.

    Returns the path of the best one.
    """
    spans = spans_of(seen.truth, windows(seen.recording), seen.recording.sample_us)
    coarse = raster(
        seen.recording,
        seen.layout,
        spans=spans,
        rows=_TEXT_ROWS,
        columns=picture.text_columns(_TEXT_WIDTH),
    )
    text = "\n".join(picture.text(coarse)) + "\n"
    best = keep_text(log, test_id, seen.attempt, "heatmap.txt", text)
    with contextlib.suppress(NotSupported):  # no matplotlib: the text will do
        path = best.with_suffix(".png")
        fine = raster(seen.recording, seen.layout, spans=spans)
        picture.save(fine, path, title=f"{test_id}, attempt {seen.attempt}", marks=_marks(seen))
        relative = path.relative_to(log.directory)
        log.artifact(test_id, relative, "picture", title="heat map", attempt=seen.attempt)
        best = path
    return best


def _marks(seen: Observation) -> list[tuple[str, float]]:
    """When each phase began, in seconds of the recording."""
    start = seen.recording.started_ns
    return [(p.name, (p.start_ns - start) / NSEC_PER_SEC) for p in seen.phases if p.start_ns >= start]

# SPDX-License-Identifier: GPL-2.0
"""Files of a run: where they go, and what every attempt leaves behind.

``DIR/tests/<test>/attempt-<n>/`` has ``recording.npz`` (``damon.recording_file``, the truth of every
window beside it), ``kernel.log`` when the kernel said anything, and pictures of failures.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ParamSpec

from damon_tests.damon import recording_file
from damon_tests.damon.recording_file import About, Saved
from damon_tests.damon.records import Recording
from damon_tests.experiment.observation import Observation
from damon_tests.experiment.physical_view import as_virtual
from damon_tests.judge.chart import to_json
from damon_tests.judge.monitoring.aggregation_windows import windows
from damon_tests.judge.monitoring.observation_charts import chart_of
from damon_tests.judge.monitoring.true_rates import spans_of
from damon_tests.judge.verdict import Check, Verdict
from damon_tests.ports import (
    DamonTestsError,
    HarnessError,
    MachineLost,
    NotSupported,
    output_file,
)
from damon_tests.ports.stopwatch import timed
from damon_tests.report import draw
from damon_tests.report.events import RunLog
from damon_tests.report.run_directory import attempt_directory

_TEXT_WIDTH = 130
_MOST_CHARTS = 3  # a test
_MOST_RANGES = 16  # of scattered frames; in more, names say nothing
Args = ParamSpec("Args")


def _disk_errors_named(keep: Callable[Args, None]) -> Callable[Args, None]:
    """A disk that is full, or not there any more, is the harness's trouble: raises HarnessError."""

    @functools.wraps(keep)
    def kept(*args: Args.args, **kwargs: Args.kwargs) -> None:
        try:
            keep(*args, **kwargs)
        except OSError as error:
            where = f" to {error.filename}" if error.filename else ""
            raise HarnessError(f"results cannot be written{where} ({error.strerror or error})") from None

    return kept


@_disk_errors_named
def keep_attempt(log: RunLog, test_id: str, observation: Observation) -> None:
    """Write what one attempt brought home, and log it. Called before anything is judged."""
    log.attempt(test_id, observation.attempt, observation.seed, observation.seconds)
    directory = attempt_directory(log.directory, test_id, observation.attempt)
    path = directory / "recording.npz"
    saved = saved_of(test_id, observation)
    recording_file.save(path, saved.recording, saved.truth, saved.about, observation.schemes)
    log.artifact(test_id, path.relative_to(log.directory), "recording", attempt=observation.attempt)
    if observation.kernel_log.strip():
        keep_text(log, test_id, observation.attempt, "kernel.log", observation.kernel_log)


@_disk_errors_named
def keep_evidence(
    log: RunLog,
    test_id: str,
    verdict: Verdict,
    checks: Sequence[Check],
    observations: Sequence[Observation],
    error: BaseException | None,
) -> None:
    """Keep pictures of what was judged bad, and the log of a machine that died in the attempt after those.

    Each check that does not hold gets the chart that shows why, if there is one.
    """
    if isinstance(error, MachineLost) and error.log:
        attempt = len(observations) + 1
        keep_text(log, test_id, attempt, "console.log", error.log)
        keep_partial(log, test_id, attempt, error.partial)
    if verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.XFAIL):
        with timed("draw pictures"):
            for observation in observations:
                if observation.recording.source != "none":
                    keep_picture(log, test_id, observation)
            keep_charts(log, test_id, checks, observations)


def keep_charts(
    log: RunLog, test_id: str, checks: Sequence[Check], observations: Sequence[Observation]
) -> list[Path]:
    """Write the charts of checks that do not hold, at most ``_MOST_CHARTS``; return their paths.

    Of several attempts the last one is drawn, as with heat maps.
    """
    attempt = observations[-1].attempt if observations else 1
    kept: dict[str, Path] = {}
    for check in checks:
        if check.holds is True or len(kept) == _MOST_CHARTS:
            continue
        chart = check.chart or (chart_of(check, observations[-1]) if observations else None)
        if chart is None or chart.title in kept:
            continue
        path = attempt_directory(log.directory, test_id, attempt) / f"chart-{len(kept) + 1}.json"
        output_file.write_text(path, json.dumps(to_json(chart)) + "\n")
        title = f"{check.measurement.name}: {chart.title}"
        log.artifact(test_id, path.relative_to(log.directory), "chart", title, attempt)
        kept[chart.title] = path
    return list(kept.values())


def keep_partial(log: RunLog, test_id: str, attempt: int, partial: object) -> None:
    """What had been recorded when the machine was lost: ``MachineLost.partial``, a recording a kdamond."""
    recordings = [r for r in partial if isinstance(r, Recording)] if isinstance(partial, tuple) else []
    for i, recording in enumerate(recordings):
        path = attempt_directory(log.directory, test_id, attempt) / f"partial-{i}.npz"
        recording_file.save(path, recording)
        log.artifact(
            test_id, path.relative_to(log.directory), "recording", "until the machine was lost", attempt
        )


def keep_console(log: RunLog, text: str) -> None:
    """Write what the console of a kernel said that did not come up; it belongs to the run, to no test."""
    if text.strip():
        path = log.directory / f"console-{log.worker}.log"
        with contextlib.suppress(OSError):  # the reason that is reported quotes its end
            output_file.write_text(path, text)
            log.artifact(None, path.name, "log", "console of the kernel that did not boot")


def keep_text(log: RunLog, test_id: str, attempt: int, name: str, text: str) -> Path:
    """A text file beside the attempt's other files; returns its path."""
    path = attempt_directory(log.directory, test_id, attempt) / name
    output_file.write_text(path, text)
    log.artifact(test_id, path.relative_to(log.directory), "log", title=name, attempt=attempt)
    return path


def keep_picture(log: RunLog, test_id: str, observation: Observation) -> Path:
    """What DAMON saw beside what happened: as text always, as PNG where matplotlib is installed.

    Returns the path of the best one.
    """
    saved = saved_of(test_id, observation)
    best = attempt_directory(log.directory, test_id, observation.attempt) / "heatmap.txt"
    output_file.write_text(best, "\n".join(draw.lines(saved, _TEXT_WIDTH)) + "\n")
    kept = [best]
    with contextlib.suppress(NotSupported):  # no matplotlib: the text will do
        best = best.with_suffix(".png")
        draw.save(saved, best)
        kept.append(best)
    for path in reversed(kept):
        relative = path.relative_to(log.directory)
        log.artifact(test_id, relative, "picture", title="heat map", attempt=observation.attempt)
    return best


def saved_of(test_id: str, observation: Observation) -> Saved:
    """Return what there is to keep and to draw of one attempt."""
    recording = observation.recording
    about = About(
        title=f"{test_id}, attempt {observation.attempt}",
        level=observation.level,
        phases=tuple((p.name, p.start_ns) for p in observation.phases),
        ctx=observation.ctx,
    )
    if recording.source == "none":
        return Saved(recording, None, replace(about, layout=dict(observation.layout)))
    if recording.operations == "paddr":
        return _saved_physical(observation, about)
    spans = spans_of(observation.truth, windows(recording), recording, observation.disturbances)
    return Saved(recording, spans, replace(about, layout=dict(observation.layout)))


def _saved_physical(observation: Observation, about: About) -> Saved:
    """The same of physical memory, as far as it is known which frames were the target's."""
    recording = observation.recording
    try:
        view = as_virtual(observation) if observation.frames else None
    except DamonTestsError:  # its units are larger than pages
        view = None
    if view is None:
        return Saved(recording, None, about)
    spans = spans_of(view.truth, windows(recording), recording, observation.disturbances)
    few = len(view.layout) <= _MOST_RANGES
    return Saved(recording, spans, replace(about, layout=dict(view.layout) if few else {}))

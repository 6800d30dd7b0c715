# SPDX-License-Identifier: GPL-2.0
"""The charts and heat maps of a run: read, and written as pictures of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from damon_tests.damon import recording_file
from damon_tests.judge.chart import Chart, from_json
from damon_tests.ports import UsageError, output_file
from damon_tests.report import chart_png, draw, wording
from damon_tests.report.chart_svg import chart_svg
from damon_tests.report.run_directory import safe_name

FORMATS = ("png", "svg")


def read(path: Path) -> Chart:
    """Read a chart of a run's directory. Raises UsageError for a file that is none."""
    try:
        return from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: not a chart of damon-tests ({error})") from None


def of_test(test: Mapping[str, Any], directory: Path) -> Iterator[tuple[str, Chart]]:
    """Yield (title, chart) of the charts of a test that can be read."""
    for artifact in wording.artifacts(test):
        if artifact["kind"] == "chart":
            try:
                yield artifact["title"], read(directory / artifact["path"])
            except UsageError:
                continue


def export(
    run: Mapping[str, Any], directory: Path, into: Path, kind: str, words_of_id: str = ""
) -> list[Path]:
    """Write every picture of the tests whose id contains ``words_of_id``; return the files.

    ``kind``: one of FORMATS. Of each attempt's recording that is the heat map, of each check that does not
    hold its chart. Raises UsageError if there is no picture, NotSupported without matplotlib.
    """
    if into.exists() and not into.is_dir():
        raise UsageError(f"{into}: pictures are written to a directory, and this is a file")
    written = []
    for test in run["tests"]:
        if words_of_id in test["id"]:
            written += [path for path in _of(test, directory, into, kind) if path is not None]
    if not written:
        raise UsageError(f"{directory}: there is no recording and no chart to draw")
    return written


def _of(test: Mapping[str, Any], directory: Path, into: Path, kind: str) -> Iterator[Path | None]:
    for attempt in (*test["attempts"], {"attempt": None, "artifacts": test["artifacts"]}):
        number = "" if attempt["attempt"] is None else f".attempt-{attempt['attempt']}"
        for artifact in attempt["artifacts"]:
            source = directory / artifact["path"]
            path = into / f"{safe_name(test['id'])}{number}.{source.stem}.{kind}"
            if artifact["kind"] == "recording" and source.is_file():
                yield _heat_map(source, path)
            elif artifact["kind"] == "chart" and source.is_file():
                yield _chart(read(source), path)


def _heat_map(source: Path, path: Path) -> Path | None:
    saved = recording_file.read(source)
    if not saved.recording.snapshots:
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    draw.save(saved, path)
    return path


def _chart(chart: Chart, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".svg":
        output_file.write_text(path, chart_svg(chart, standalone=True) + "\n")
    else:
        chart_png.save(chart, path)
    return path

# SPDX-License-Identifier: GPL-2.0
"""``damon-tests recording``: recordings opened whatever wrote them, shown, converted, judged.

A file is ours (``damon.recording_file``) or damo's (``damon.damo_import``): its content decides which.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from damon_tests.damon import damo_format, damo_import, recording_file
from damon_tests.damon.damo_format import DamoFormat
from damon_tests.damon.recording_file import About, Saved
from damon_tests.judge.monitoring.recording_verdict import Request, judge_recording
from damon_tests.ports import UsageError, output_file
from damon_tests.report import draw, output, terminal, two_recordings, wording
from damon_tests.report.scheme_lines import scheme_lines

_ZIP = b"PK"
_WIDEST = 10_000  # columns of a heat map as text


@dataclass(frozen=True, eq=False)
class Opened:
    """A recording and what its file did not say; ``intervals_known``: False when they were guessed."""

    saved: Saved
    notes: tuple[str, ...] = ()
    intervals_known: bool = True


def load(path: Path, select: int | None = None, intervals: tuple[int, int] | None = None) -> Opened:
    """``select``: which, if a file of damo has several; ``intervals``: (sample_us, aggr_us) where the file
    does not say. Raises UsageError."""
    try:
        with path.open("rb") as file:
            ours = file.read(2) == _ZIP
    except FileNotFoundError:
        raise UsageError(f"{path}: no such recording") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    if ours and select:
        raise UsageError(f"{path} holds 1 recording, none with number {select}")
    if ours:
        return Opened(recording_file.read(path))
    recordings = damo_import.load(path, intervals)
    if select is None and len(recordings) > 1:
        listed = ", ".join(f"{i} ({x.name})" for i, x in enumerate(recordings))
        raise UsageError(f"{path} holds {len(recordings)} recordings; choose with --select: {listed}")
    if not 0 <= (select or 0) < len(recordings):
        raise UsageError(
            f"{path} holds {wording.plural(len(recordings), 'recording')}, none with number {select}"
        )
    chosen = recordings[select or 0]
    saved = Saved(chosen.recording, None, About(path.name, ctx=chosen.ctx))
    return Opened(saved, chosen.notes, chosen.intervals_known)


def show(
    path: Path,
    *,
    truth: bool | None = None,
    png: Path | None = None,
    width: int | None = None,
    target: int = 0,
    select: int | None = None,
) -> int:
    """Print a heat map; with ``png`` write it as PNG or SVG instead. ``truth`` None: if it is there."""
    opened = load(path, select)
    saved, notes = opened.saved, opened.notes
    if truth and saved.truth is None:
        raise UsageError(f"{path} does not know what really happened: it shows only what DAMON saw")
    if truth is False:
        saved = replace(saved, truth=None)
    if target and not saved.recording.of_target(target):
        raise UsageError(f"{path} has no target {target}")
    print(headline(saved))
    for note in notes:
        print(f"note: {note}")
    for line in scheme_lines(saved):
        print(line)
    if saved.recording.source == "none":
        print("this run did not record regions")
        return 0
    if png is not None:
        draw.save(saved, png, target_idx=target)
        print(f"Picture  {png}")
        return 0
    for line in draw.lines(saved, _columns(width), target_idx=target, color=output.colored(sys.stdout)):
        print(line)
    return 0


def compare(
    path: Path, other: Path, *, png: Path | None = None, width: int | None = None, target: int = 0
) -> int:
    """Print two recordings side by side, their difference, and what can be counted of each."""
    a, b = load(path).saved, load(other).saved
    for name, saved in ((path, a), (other, b)):
        if not saved.recording.of_target(target):
            raise UsageError(f"{name} has no target {target}")
    print(f"A: {path}: {headline(a)}\nB: {other}: {headline(b)}")
    if not set(a.about.layout) & set(b.about.layout):
        print("note: the files name no memory that both have: addresses are compared as they are")
    if png is not None:
        two_recordings.save(a, b, png, target_idx=target)
        print(f"Picture  {png}")
    else:
        columns = _columns(width)
        color = output.colored(sys.stdout)
        print("\n".join(two_recordings.lines(a, b, columns, target_idx=target, color=color)))
    print("\n".join(two_recordings.figures(a, b, target)))
    return 0


def _columns(width: int | None) -> int:
    """Return how wide text may be. Raises UsageError for what no terminal has."""
    if width is not None and width > _WIDEST:
        raise UsageError(f"--width {width}: no terminal has more than {_WIDEST} columns")
    return width or shutil.get_terminal_size((100, 24)).columns


def export(path: Path, out: Path, format: DamoFormat = "json_compressed") -> int:
    """Write a recording as one of damo's files, its request beside it."""
    saved = load(path).saved
    output_file.check_writable(out)
    incomplete = damo_format.save(out, saved.recording, format, ctx=saved.about.ctx)
    snapshots = len(saved.recording.snapshots) - incomplete
    print(f"{out}: {wording.plural(snapshots, 'snapshot')} for damo ({format})")
    for what in damo_format.left_out(saved.recording, format, saved.about.ctx):
        print(f"note: left out: {what}")
    return 0


def import_(
    path: Path, out: Path, *, select: int | None = None, intervals: tuple[int, int] | None = None
) -> int:
    """Write a recording of damo as one of ours."""
    opened = load(path, select, intervals)
    if not opened.intervals_known:
        raise UsageError(f"{path} does not say its intervals: give --intervals SAMPLE_US AGGR_US")
    saved, notes = opened.saved, opened.notes
    output_file.check_writable(out)
    recording_file.save(out, saved.recording, saved.truth, saved.about)
    for note in notes:
        print(f"note: {note}")
    print(f"{out}: {headline(saved)}")
    return 0


def judge(path: Path, request: Request, *, select: int | None = None) -> int:
    """Judge every invariant that the recording alone can show; return the exit code of the verdict."""
    opened = load(path, select, request.intervals)
    judged = judge_recording(opened.saved, request, intervals_known=opened.intervals_known)
    print(headline(opened.saved))
    for note in (*opened.notes, *judged.notes):
        print(f"note: {note}")
    for check in judged.checks:
        if check.holds is not True:
            for line in terminal.check(asdict(check)):
                print(line)
    for measurement in judged.measurements:
        print(f"  {measurement.name}: {wording.quantity(measurement.value, measurement.unit)}")
    bad = sum(check.holds is not True for check in judged.checks)
    what = judged.reason if not bad else f"{bad} of {wording.plural(len(judged.checks), 'check')} not met"
    print(f"{judged.verdict}  {what}, judged as {judged.level}")
    return judged.verdict.exit_code


def headline(saved: Saved) -> str:
    """Return a line that says what a recording is: size, operations, source, intervals."""
    r = saved.recording
    targets = len({s.target_idx for s in r.snapshots})
    parts = [
        saved.about.title or "recording",
        f"{wording.plural(len(r.snapshots), 'snapshot')} of {wording.plural(targets, 'target')}",
        f"{r.operations}, {r.source}",
        f"{r.sample_us} µs, {r.aggr_us} µs",
    ]
    if r.lost_events:
        parts.append(f"{wording.plural(r.lost_events, 'event')} lost")
    return " · ".join(parts)

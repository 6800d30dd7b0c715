# SPDX-License-Identifier: GPL-2.0
"""What ``damon-tests monitor`` shows while DAMON runs: heat rows, hot and cold bytes, regions, DAMON's cost.

In a terminal it is redrawn and takes keys; elsewhere a line is printed every few seconds.
"""

from __future__ import annotations

import contextlib
import sys
import textwrap
import time
from dataclasses import dataclass, replace
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text

from damon_tests.commands import playback
from damon_tests.commands.keys import Keys
from damon_tests.damon.records import Recording
from damon_tests.ports import NSEC_PER_SEC
from damon_tests.report import heatmap_text, wording
from damon_tests.report.raster import raster

SHOWN_S = 20.0
"""How much of the past is shown at first."""

HELP = "space: pause   + -: zoom   z: all   t: next target   q: end"

_SHORTEST_S, _LONGEST_S = 2.5, 3600.0
_FEWEST_ROWS = 8
_OTHER_LINES = 28  # of the picture at most: between mappings, axis, legend, figures, regions
_REDRAW_S = 0.5
_PLAIN_EVERY_S = 5.0
_MOST_HOT = 6


class Watched(Protocol):
    """A DAMON that runs. ``head``: who is watched, and by what."""

    @property
    def head(self) -> str: ...

    @property
    def running(self) -> bool: ...

    def go_on(self) -> None:
        """Let some time pass, at most a fifth of a second, and take what was reported."""
        ...

    def recording(self) -> Recording:
        """Return what was reported so far."""
        ...

    def cost(self) -> str:
        """Return what DAMON costs, in words; empty where that is not known."""
        ...


@dataclass
class View:
    """What is shown. ``shown_s``: how much of the past; ``whole``: all of it. ``target``: its position."""

    shown_s: float = SHOWN_S
    whole: bool = False
    paused: bool = False
    target: int = 0
    ended: bool = False

    def take(self, key: str) -> None:
        """Do what a key asks for."""
        if key == " ":
            self.paused = not self.paused
        elif key in ("+", "-"):
            self.whole = False
            wanted = self.shown_s * (0.5 if key == "+" else 2)
            self.shown_s = min(_LONGEST_S, max(_SHORTEST_S, wanted))
        elif key == "z":
            self.whole = not self.whole
        elif key == "t":
            self.target += 1
        elif key == "q":
            self.ended = True

    def of(self, recording: Recording) -> Recording:
        """Return the part of one target that is shown; the first target follows the last."""
        targets = sorted({s.target_idx for s in recording.snapshots})
        target = targets[self.target % len(targets)] if targets else 0
        chosen = recording.of_target(target)
        since = recording.started_ns
        if chosen and not self.whole:
            since = max(since, chosen[-1].time_ns - int(self.shown_s * NSEC_PER_SEC))
        kept = tuple(replace(s, target_idx=0) for s in chosen if s.time_ns > since)
        return replace(recording, snapshots=kept, started_ns=since)


def show(watched: Watched, seconds: float | None, console: Console) -> None:
    """Show ``watched`` until it ends, ``seconds`` passed, q or Ctrl-C."""
    deadline = None if seconds is None else time.monotonic() + seconds
    with contextlib.suppress(KeyboardInterrupt):
        if console.is_terminal:
            _draw(watched, deadline, console)
        else:
            _print(watched, deadline)
    if not console.is_terminal:
        print(frame(watched, View(), console.width))
    sys.stdout.flush()


def _goes_on(watched: Watched, deadline: float | None) -> bool:
    return watched.running and (deadline is None or time.monotonic() < deadline)


def _print(watched: Watched, deadline: float | None) -> None:
    """Print a line every few seconds."""
    due_s = time.monotonic() + _PLAIN_EVERY_S
    while _goes_on(watched, deadline):
        watched.go_on()
        if time.monotonic() >= due_s:
            due_s = time.monotonic() + _PLAIN_EVERY_S
            print(state(watched.recording(), watched.cost()), flush=True)


def _draw(watched: Watched, deadline: float | None, console: Console) -> None:
    view, due_s = View(), 0.0
    with Keys() as keys, Live(console=console, auto_refresh=False) as live:
        while _goes_on(watched, deadline):
            watched.go_on()
            key = keys.pressed()
            view.take(key)
            if view.ended:
                return
            if key or (not view.paused and time.monotonic() >= due_s):
                due_s = time.monotonic() + _REDRAW_S
                shown = frame(watched, view, console.width, console.height)
                live.update(Text(shown, no_wrap=True), refresh=True)


def state(recording: Recording, cost: str = "") -> str:
    """Return a line: time, hot and cold bytes, regions, and DAMON's cost."""
    if not recording.snapshots:
        return "(no aggregation has ended yet)"
    line = playback.state(recording, recording.snapshots[-1])
    return f"{line}, {cost}" if cost else line


def frame(watched: Watched, view: View, width: int, height: int | None = None) -> str:
    """Return the heat map of what is shown, and the regions of the last aggregation that are accessed most.

    In a low terminal the heat map has fewer rows.
    """
    whole = watched.recording()
    shown = view.of(whole)
    lines = _folded(watched.head, width)
    if not shown.snapshots:
        return "\n".join([*lines, "(no aggregation has ended yet)", HELP])
    plan = heatmap_text.plan(width, truth=False)
    rows = plan.rows if height is None else max(_FEWEST_ROWS, min(plan.rows, height - _OTHER_LINES))
    drawn = raster(shown, {}, rows=rows, columns=plan.columns)
    targets = len({s.target_idx for s in whole.snapshots})
    what = f"target {view.target % targets} of {targets}; " if targets > 1 else ""
    paused = "paused; " if view.paused else ""
    now = replace(shown, started_ns=whole.started_ns)
    lines += _folded(f"{paused}{what}{state(now, watched.cost()).strip()}", width)
    lines += [*heatmap_text.text(drawn), "", *hottest(shown)]
    if height is None:
        return "\n".join(lines)
    return "\n".join([*lines[: max(_FEWEST_ROWS, height - 2)], HELP])


def _folded(line: str, width: int) -> list[str]:
    """Return a line as the lines that it takes: a terminal's end cuts nothing off."""
    return textwrap.wrap(line, width, subsequent_indent="  ", break_on_hyphens=False) or [""]


def hottest(recording: Recording) -> list[str]:
    """Return the regions of the last aggregation that are accessed most, a line each."""
    last = recording.snapshots[-1]
    samples = max(1, recording.samples_per_aggr)
    order = (last.nr_accesses.astype(float) * last.sizes).argsort()[::-1][:_MOST_HOT]
    lines = [f"{len(last)} regions; most accessed:"]
    for i in order.tolist():
        if not last.nr_accesses[i]:
            break
        size = int(last.sizes[i]) * recording.addr_unit
        lines.append(
            f"  {int(last.start[i]):#x}-{int(last.end[i]):#x}  {wording.size(size):>10}"
            f"  {int(last.nr_accesses[i]) / samples:5.0%} of samples  age {int(last.age[i])}"
        )
    return lines

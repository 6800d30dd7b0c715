# SPDX-License-Identifier: GPL-2.0
"""``damon-tests monitor --play FILE``: a recording again, as it came, at any speed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from damon_tests.commands import recording as recordings
from damon_tests.commands.keys import Keys
from damon_tests.damon.recording_file import Saved
from damon_tests.damon.records import Recording, Snapshot
from damon_tests.ports import NSEC_PER_SEC, UsageError
from damon_tests.report import draw, wording

_FRAME_S = 0.2
_SHOWN_NS = 20 * NSEC_PER_SEC
_PLAIN_EVERY_NS = NSEC_PER_SEC
_HELP = "space: pause   + -: speed   z: last 20 s or all   q: quit"


def play(path: Path, speed: float = 1.0, console: Console | None = None) -> int:
    """Show a recording of ours, or a file of damo, as it grew. Raises UsageError for any other file.

    In a terminal it is drawn ``speed`` times as fast as it was recorded; elsewhere a line is printed for each
    second of the recording, without waiting.
    """
    saved = recordings.load(path).saved
    if not saved.recording.snapshots:
        raise UsageError(f"{path}: nothing was recorded")
    console = console or Console()
    print(recordings.headline(saved))
    if console.is_terminal:
        with contextlib.suppress(KeyboardInterrupt):
            _play_live(saved, speed, console)
    else:
        for line in plain_lines(saved.recording):
            print(line)
    return 0


def plain_lines(recording: Recording) -> list[str]:
    """Return a line for each second of the recording."""
    lines, due_ns = [], recording.started_ns
    for snapshot in recording.snapshots:
        if snapshot.time_ns >= due_ns:
            lines.append(state(recording, snapshot))
            due_ns = snapshot.time_ns + _PLAIN_EVERY_NS
    return lines


def state(recording: Recording, snapshot: Snapshot) -> str:
    """Return what a snapshot says, in a line: time, hot and cold bytes, regions."""
    unit = recording.addr_unit
    hot = int(snapshot.sizes[snapshot.nr_accesses > 0].sum()) * unit
    cold = int(snapshot.sizes.sum()) * unit - hot
    at = (snapshot.time_ns - recording.started_ns) / NSEC_PER_SEC
    regions = wording.plural(len(snapshot), "region")
    return f"{at:8.1f} s  hot {wording.size(hot)}, cold {wording.size(cold)}, {regions}"


@dataclass
class Position:
    """Where playing is. ``at_ns``: since recording began."""

    length_ns: int
    speed: float
    at_ns: float = 0.0
    paused: bool = False
    whole: bool = False
    ended: bool = False

    def advance(self, seconds: float) -> None:
        if not self.paused:
            self.at_ns = min(self.length_ns, self.at_ns + seconds * self.speed * NSEC_PER_SEC)

    def take(self, key: str) -> None:
        """Do what a key asks for."""
        if key == " ":
            self.paused = not self.paused
        elif key in ("+", "-"):
            self.speed *= 2 if key == "+" else 0.5
        elif key == "z":
            self.whole = not self.whole
        elif key == "q":
            self.ended = True


def up_to(saved: Saved, position: Position) -> Saved:
    """Return the part of the recording that is shown: up to the position, and its last seconds or all."""
    r = saved.recording
    until = r.started_ns + int(position.at_ns)
    since = r.started_ns if position.whole else max(r.started_ns, until - _SHOWN_NS)
    kept = tuple(s for s in r.snapshots if since < s.time_ns <= until)
    shown = replace(r, snapshots=kept, started_ns=since, stopped_ns=until)
    return replace(saved, recording=shown, truth=None)


def _play_live(
    saved: Saved, speed: float, console: Console, now: Callable[[], float] = time.monotonic
) -> None:
    r = saved.recording
    position = Position(r.snapshots[-1].time_ns - r.started_ns, speed)
    before = now()
    with Keys() as keys, Live(console=console, auto_refresh=False) as live:
        while not position.ended:
            shown = up_to(saved, position)
            live.update(Text(_frame(shown, position, console), no_wrap=True), refresh=True)
            if position.at_ns >= position.length_ns:
                return
            position.take(keys.pressed(_FRAME_S))
            position.advance(now() - before)
            before = now()


def _frame(shown: Saved, position: Position, console: Console) -> str:
    snapshots = shown.recording.snapshots
    head = f"{position.at_ns / NSEC_PER_SEC:.1f} of {position.length_ns / NSEC_PER_SEC:.1f} s"
    head += f", {position.speed:g} times as fast{', paused' if position.paused else ''}"
    if not snapshots:
        return f"{head}\n(no aggregation had ended yet)\n{_HELP}"
    drawn = draw.lines(shown, console.width)[: max(8, console.height - 4)]
    return "\n".join([head, *drawn, state(shown.recording, snapshots[-1]), _HELP])

# SPDX-License-Identifier: GPL-2.0
"""DAMON's tracepoints, printed exactly as the kernel prints them."""

from __future__ import annotations

from collections.abc import Sequence

from damon_tests.ports import LOST_EVENTS, Event, NotSupported
from damon_tests.reference.machine.clock import VirtualClock

SINCE: dict[str, tuple[int, int]] = {
    "damon_aggregated": (5, 15),
    "damos_before_apply": (6, 7),
    "damos_esz": (6, 17),
    "damon_monitor_intervals_tune": (6, 17),
    "damos_stat_after_apply_interval": (7, 0),
    "damon_region_aggregated": (7, 2),
}


class ReferenceEventStream:
    """An open recording. No event is lost unless it is ``bounded``: then only that many of the newest wait
    to be read, as in a ring buffer that is overwritten."""

    def __init__(self, events: ReferenceEvents, names: frozenset[str], bounded: int | None = None) -> None:
        self._events = events
        self.names = names
        self._bounded = bounded
        self._pending: list[Event] = []
        self._lost = self._lost_since_read = 0

    def add(self, hits: Sequence[Event]) -> None:
        self._pending.extend(hits)
        if self._bounded is not None and len(self._pending) > self._bounded:
            overwritten = len(self._pending) - self._bounded
            del self._pending[:overwritten]
            self._lost += overwritten
            self._lost_since_read += overwritten

    def read(self) -> Sequence[Event]:
        taken, self._pending = self._pending, []
        if self._lost_since_read:
            taken.insert(0, Event(taken[0].time_ns, LOST_EVENTS, str(self._lost_since_read)))
            self._lost_since_read = 0
        return taken

    def lost(self) -> int:
        return self._lost

    def close(self) -> None:
        self._events.forget(self)


class ReferenceEvents:
    """``ports.Events`` of one simulated system. ``bounded`` applies to every stream opened from now on."""

    def __init__(
        self, clock: VirtualClock, version: tuple[int, int], hidden: frozenset[str] = frozenset()
    ) -> None:
        self._clock = clock
        self.bounded: int | None = None
        self._available = frozenset(name for name, since in SINCE.items() if since <= version) - hidden
        self._streams: list[ReferenceEventStream] = []
        self._enabled: frozenset[str] = frozenset()

    def available(self) -> frozenset[str]:
        return self._available

    def open(self, names: Sequence[str]) -> ReferenceEventStream:
        missing = [name for name in names if name not in self._available]
        if missing:
            raise NotSupported(
                *(f"tracepoint damon:{name}" for name in missing),
                remedy="use a level that has it: newer kernels, `reference:7.3`",
            )
        stream = ReferenceEventStream(self, frozenset(names), self.bounded)
        self._streams.append(stream)
        self._update()
        return stream

    def forget(self, stream: ReferenceEventStream) -> None:
        if stream in self._streams:
            self._streams.remove(stream)
        self._update()

    def enabled(self, name: str) -> bool:
        """Whether a stream records the tracepoint; if not, its text need not be made."""
        return name in self._enabled

    def emit(self, name: str, texts: Sequence[str], pid: int) -> None:
        """Emit hits of one tracepoint by thread ``pid``, all at the present moment."""
        now = self._clock.now_ns()
        hits = [Event(now, name, text, pid) for text in texts]
        for stream in self._streams:
            if name in stream.names:
                stream.add(hits)

    def _update(self) -> None:
        self._enabled = frozenset().union(*(stream.names for stream in self._streams))


class ThreadEvents:
    """The tracepoints as one kdamond hits them."""

    def __init__(self, events: ReferenceEvents, pid: int) -> None:
        self._events = events
        self._pid = pid

    def enabled(self, name: str) -> bool:
        return self._events.enabled(name)

    def emit(self, name: str, texts: Sequence[str]) -> None:
        self._events.emit(name, texts, self._pid)

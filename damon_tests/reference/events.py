# SPDX-License-Identifier: GPL-2.0
"""DAMON's tracepoints, printed exactly as the kernel prints them."""

from __future__ import annotations

from collections.abc import Sequence

from damon_tests.ports import Event, NotSupported
from damon_tests.reference.clock import VirtualClock

SINCE: dict[str, tuple[int, int]] = {
    "damon_aggregated": (5, 15),
    "damos_before_apply": (6, 7),
    "damos_esz": (6, 17),
    "damon_monitor_intervals_tune": (6, 17),
    "damos_stat_after_apply_interval": (7, 0),
    "damon_region_aggregated": (7, 2),
}


class ReferenceEventStream:
    """An open recording: nothing is ever lost."""

    def __init__(self, events: ReferenceEvents, names: frozenset[str]) -> None:
        self._events = events
        self.names = names
        self.pending: list[Event] = []

    def read(self) -> Sequence[Event]:
        taken, self.pending = self.pending, []
        return taken

    def lost(self) -> int:
        return 0

    def close(self) -> None:
        self._events.forget(self)


class ReferenceEvents:
    """``ports.Events`` of one simulated system."""

    def __init__(self, clock: VirtualClock, version: tuple[int, int]) -> None:
        self._clock = clock
        self._available = frozenset(name for name, since in SINCE.items() if since <= version)
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
        stream = ReferenceEventStream(self, frozenset(names))
        self._streams.append(stream)
        self._update()
        return stream

    def forget(self, stream: ReferenceEventStream) -> None:
        if stream in self._streams:
            self._streams.remove(stream)
        self._update()

    def enabled(self, name: str) -> bool:
        """Whether anybody listens; printing is skipped otherwise."""
        return name in self._enabled

    def emit(self, name: str, texts: Sequence[str], pid: int) -> None:
        """Hits of one tracepoint by thread ``pid``, all at the present moment."""
        now = self._clock.now_ns()
        hits = [Event(now, name, text, pid) for text in texts]
        for stream in self._streams:
            if name in stream.names:
                stream.pending.extend(hits)

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

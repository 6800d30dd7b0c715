# SPDX-License-Identifier: GPL-2.0
"""DAMON's tracepoints, in the order they happened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Event:
    """One tracepoint hit.

    ``time_ns`` is CLOCK_MONOTONIC of the machine. ``text`` is the event's printed format
    after its name, as in trace_pipe: ``target_id=0 nr_regions=10 4096-8192: 0 3``.
    The reference prints the same text, so one parser serves both (``damon.trace``).
    ``pid`` is the thread that hit it (a kdamond, as its ``pid`` file says), 0 when unknown:
    ``damon_aggregated`` identifies its context by nothing else.

    An event named ``LOST_EVENTS`` is no tracepoint: it marks where events were lost, and its text is their
    number (also counted by ``EventStream.lost``), so that no events are grouped across the hole.
    """

    time_ns: int
    name: str
    text: str
    pid: int = 0


LOST_EVENTS = "[LOST EVENTS]"
"""Name of the event that marks a hole in the stream."""


class EventStream(Protocol):
    """An open recording of some tracepoints."""

    def read(self) -> Sequence[Event]:
        """Return everything that arrived since the last call; do not wait."""
        ...

    def lost(self) -> int:
        """Return how many events were lost since the stream was opened. Raises HarnessError, instead of
        returning 0, if the implementation cannot know."""
        ...

    def close(self) -> None:
        """Stop tracing and remove its set-up. May be called twice.

        Afterwards ``read`` still returns the events that happened before."""
        ...


class Events(Protocol):
    """Tracepoints of the system ``damon``."""

    def available(self) -> frozenset[str]:
        """Return the names of the existing events, such as ``damon_aggregated``; empty without tracefs."""
        ...

    def open(self, names: Sequence[str]) -> EventStream:
        """Start recording these events. Raises NotSupported for a name not available."""
        ...

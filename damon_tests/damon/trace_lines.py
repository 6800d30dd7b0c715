# SPDX-License-Identifier: GPL-2.0
"""Parse the bytes of trace_pipe, in arbitrary pieces, into events, with a mark where events are missing."""

from __future__ import annotations

from dataclasses import replace

from damon_tests.damon.trace import parse_line
from damon_tests.ports import LOST_EVENTS, Event

_TYPICAL_LINE = 100
"""Typical length of an event's line in bytes, to estimate how many events lost bytes were."""


class LineReader:
    """``lost_events``: events that the kernel reports as overwritten. ``lost_in_stream``: events dropped on
    the way from the file, estimated from their bytes (never 0 if any byte was lost)."""

    def __init__(self) -> None:
        self.lost_events = 0
        self.lost_in_stream = 0
        self._tail = b""
        self._lost_bytes = 0
        self._skip_to_newline = False
        self._last_ns = 0

    def feed(self, data: bytes, lost_bytes: int) -> list[Event]:
        """Return the events of the lines completed by ``data``. ``lost_bytes`` is the stream's count after
        the read: if it grew, bytes are missing after ``data``, and no line is joined across the gap.

        Raises HarnessError for a malformed line.
        """
        *lines, tail = (self._tail + data).split(b"\n")
        if self._skip_to_newline and lines:
            del lines[0]  # its beginning is missing
            self._skip_to_newline = False
        self._tail = tail
        events = [self._event(line) for line in lines if line.strip() and not line.startswith(b"#")]
        grown = lost_bytes - self._lost_bytes
        if grown > 0:
            self._lost_bytes = lost_bytes
            count = max(1, grown // _TYPICAL_LINE)
            self.lost_in_stream += count
            self._tail = b""
            self._skip_to_newline = True
            events.append(Event(self._last_ns, LOST_EVENTS, str(count)))
        return events

    def _event(self, line: bytes) -> Event:
        event = parse_line(line.decode("utf-8", "replace"))
        if event.name == LOST_EVENTS:
            self.lost_events += int(event.text)
            # The mark has no time: it goes after the events read so far.
            return replace(event, time_ns=self._last_ns)
        self._last_ns = max(self._last_ns, event.time_ns)
        return event

# SPDX-License-Identifier: GPL-2.0
"""Tracepoints of the reference: none is lost, unless a stream is bounded."""

from __future__ import annotations

from damon_tests.ports import LOST_EVENTS
from damon_tests.reference.core.tracepoints import ReferenceEvents
from damon_tests.reference.machine.clock import VirtualClock


def test_a_bounded_stream_keeps_the_newest_and_counts_the_others() -> None:
    events = ReferenceEvents(VirtualClock(1000, None), (7, 3))
    whole = events.open(["damon_aggregated"])
    events.bounded = 3
    small = events.open(["damon_aggregated"])
    events.emit("damon_aggregated", ["a", "b"], 7)
    assert [e.text for e in small.read()] == ["a", "b"]
    events.emit("damon_aggregated", ["c", "d"], 7)
    events.emit("damon_aggregated", ["e", "f", "g"], 7)
    assert [(e.name == LOST_EVENTS, e.text) for e in small.read()] == [
        (True, "2"),
        (False, "e"),
        (False, "f"),
        (False, "g"),
    ]
    assert small.lost() == 2
    assert small.read() == []
    assert "".join(e.text for e in whole.read()) == "abcdefg"
    assert whole.lost() == 0

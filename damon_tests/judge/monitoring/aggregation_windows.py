# SPDX-License-Identifier: GPL-2.0
"""Windows: the time that each snapshot describes.

A snapshot of ``damon_aggregated`` counts accesses since the previous aggregation of the same target: its
window is (time of the previous one, its own time]. Make windows first and select among them afterwards, so
that leaving some out never makes others longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from damon_tests.damon.records import Recording, Snapshot
from damon_tests.ports import NSEC_PER_USEC

# With lost events a whole aggregation may be missing; the next window would then be too long.
_LONGEST_WITH_LOSSES = 1.5


@dataclass(frozen=True, eq=False)
class Window:
    """``snapshot`` describes (t0_ns, t1_ns], monotonic ns of the machine.

    ``index`` counts the snapshots of the target from 0, left-out ones included.
    """

    index: int
    t0_ns: int
    t1_ns: int
    snapshot: Snapshot

    @property
    def duration_ns(self) -> int:
        return self.t1_ns - self.t0_ns


def windows(recording: Recording, target_idx: int = 0) -> tuple[Window, ...]:
    """Return the window of every complete snapshot of one target, in time order.

    A ``tried_regions`` snapshot is a moving sum: its window is the aggregation interval that ends when it was
    read. An incomplete snapshot has no window. With lost events, a snapshot later than 1.5 aggregation
    intervals after its predecessor has none either, because an aggregation may be missing between them.
    """
    aggr_ns = recording.aggr_us * NSEC_PER_USEC
    chosen = []
    previous_ns = recording.started_ns
    for index, snapshot in enumerate(recording.of_target(target_idx)):
        t0_ns, t1_ns = previous_ns, snapshot.time_ns
        if recording.source == "tried_regions":
            t0_ns = t1_ns - aggr_ns
        previous_ns = t1_ns
        too_long = recording.lost_events > 0 and t1_ns - t0_ns > _LONGEST_WITH_LOSSES * aggr_ns
        if snapshot.complete and not too_long and t1_ns > t0_ns:
            chosen.append(Window(index, t0_ns, t1_ns, snapshot))
    return tuple(chosen)


def settled(
    recording: Recording,
    after_ns: int,
    until_ns: int | None = None,
    *,
    target_idx: int = 0,
) -> tuple[Window, ...]:
    """Return the windows that lie wholly within [after_ns, until_ns).

    DAMON needs several aggregations to find boundaries: a test of its accuracy judges windows after that.
    Times are monotonic ns of the machine; ``until_ns`` None: the end of the recording.
    """
    return within(windows(recording, target_idx), after_ns, until_ns)


def within(chosen: Sequence[Window], after_ns: int, until_ns: int | None = None) -> tuple[Window, ...]:
    """Return those of ``chosen`` that lie wholly within [after_ns, until_ns)."""
    return tuple(w for w in chosen if w.t0_ns >= after_ns and (until_ns is None or w.t1_ns <= until_ns))


def aggregations(recording: Recording) -> tuple[tuple[Snapshot, ...], ...]:
    """Return the snapshots of each aggregation, one for each target, in order.

    The kernel reports targets in list order, so a target index that does not ascend begins the next
    aggregation.
    """
    groups: list[list[Snapshot]] = []
    for snapshot in recording.snapshots:
        if not groups or snapshot.target_idx <= groups[-1][-1].target_idx:
            groups.append([])
        groups[-1].append(snapshot)
    return tuple(tuple(group) for group in groups)

# SPDX-License-Identifier: GPL-2.0
"""Which stretch of time each snapshot describes, and which snapshots are judged.

A snapshot of ``damon_aggregated`` counts what happened since the previous aggregation of the
same target: its window is (that one's time, its own time]. Windows are made before snapshots
are selected, so that leaving some out never stretches the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from damon_tests.damon.records import Recording, Snapshot
from damon_tests.ports import NSEC_PER_USEC

# With lost events a whole aggregation may be missing, and the next window would then be too long.
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

    ``tried_regions`` snapshots are moving sums: their window is the aggregation interval that
    ends when they were read. Incomplete snapshots have no window; with lost events neither
    have snapshots that follow their predecessor later than 1.5 aggregation intervals, because
    an aggregation may be missing in between.
    """
    aggr_ns = recording.aggr_us * NSEC_PER_USEC
    found = []
    previous_ns = recording.started_ns
    for index, snapshot in enumerate(recording.of_target(target_idx)):
        t0_ns, t1_ns = previous_ns, snapshot.time_ns
        if recording.source == "tried_regions":
            t0_ns = t1_ns - aggr_ns
        previous_ns = t1_ns
        too_long = recording.lost_events > 0 and t1_ns - t0_ns > _LONGEST_WITH_LOSSES * aggr_ns
        if snapshot.complete and not too_long and t1_ns > t0_ns:
            found.append(Window(index, t0_ns, t1_ns, snapshot))
    return tuple(found)


def settled(
    recording: Recording,
    after_ns: int,
    until_ns: int | None = None,
    *,
    target_idx: int = 0,
) -> tuple[Window, ...]:
    """Return the windows that lie wholly within [after_ns, until_ns).

    DAMON needs several aggregations to find boundaries: a test about what it settles on names
    the time from which that is asked. ``until_ns`` None: to the end of the recording.
    """
    return within(windows(recording, target_idx), after_ns, until_ns)


def within(chosen: Sequence[Window], after_ns: int, until_ns: int | None = None) -> tuple[Window, ...]:
    """Return those of ``chosen`` that lie wholly within [after_ns, until_ns)."""
    return tuple(w for w in chosen if w.t0_ns >= after_ns and (until_ns is None or w.t1_ns <= until_ns))


def aggregations(recording: Recording) -> tuple[tuple[Snapshot, ...], ...]:
    """Return the snapshots grouped by aggregation: all targets of one aggregation together, in order.

    The kernel reports targets in list order within an aggregation, so a target index that does not
    ascend begins the next one.
    """
    groups: list[list[Snapshot]] = []
    for snapshot in recording.snapshots:
        if not groups or snapshot.target_idx <= groups[-1][-1].target_idx:
            groups.append([])
        groups[-1].append(snapshot)
    return tuple(tuple(group) for group in groups)

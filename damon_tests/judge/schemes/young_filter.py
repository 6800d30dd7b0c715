# SPDX-License-Identifier: GPL-2.0
"""Compute how many bytes a ``young`` filter must let through, from its times and the true accesses.

A scheme with such a filter reads and clears the accessed bit of every page of a region that it tries, so the
next pass reads accesses since then. damos_before_apply of the scheme itself (not earlier) and of a watching
scheme after it in the list (not later) bound the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from damon_tests.damon.trace import BeforeApplyEvent
from damon_tests.ports import NSEC_PER_MSEC, Pages, Truth, page_size

SLACK_NS = 50 * NSEC_PER_MSEC
"""Uncertainty of a touch's time. A pass of the target over little memory takes far less, unless the target
loses its CPU. It only widens the bounds."""


@dataclass(frozen=True)
class Asked:
    """The filter read the pages of [start, end) within [from_ns, to_ns].

    The previous time was within [last_from_ns, last_to_ns]; None: there was none.
    """

    start: int
    end: int
    from_ns: int
    to_ns: int
    last_from_ns: int | None
    last_to_ns: int | None


def questions(
    events: Sequence[BeforeApplyEvent], scheme_idx: int, watcher_idx: int, count: int
) -> list[Asked]:
    """Return the first ``count`` regions whose pages the scheme's filter read, in order.

    The regions must not change.

    ``watcher_idx``: a scheme later in the list that is tried on every region.
    """
    regions: list[Asked] = []
    last: dict[tuple[int, int], Asked] = {}
    pending: BeforeApplyEvent | None = None
    for event in events:
        if event.scheme_idx == scheme_idx:
            pending = event
        elif event.scheme_idx == watcher_idx and pending is not None:
            key = (pending.start, pending.end)
            before = last.get(key)
            asked = Asked(
                *key,
                pending.time_ns,
                event.time_ns,
                before.from_ns if before else None,
                before.to_ns if before else None,
            )
            regions.append(asked)
            last[key] = asked
            pending = None
    return regions[:count]


def young_bytes(
    asked: Sequence[Asked], truth: Truth, samples_between: int, quiet_ns: int | None = None
) -> tuple[int, int]:
    """Return the fewest and most bytes that were young, summed over ``asked``.

    ``truth``: of the monitored address space. Each sample clears the accessed bit of one page in each region,
    so up to ``samples_between`` touched pages may be old. The first time all pages are young, because nothing
    cleared their bits since they were populated. ``quiet_ns``: the time before each read without a sample,
    that is the sampling interval; pages touched in it are certainly young.
    """
    low = high = 0
    for region in asked:
        pages = np.arange(region.start // page_size(), region.end // page_size(), dtype=np.int64)
        surely = possibly = len(pages)
        if region.last_from_ns is not None and region.last_to_ns is not None:
            surely = _surely(truth, pages, region.last_to_ns + SLACK_NS, region.from_ns - SLACK_NS)
            possibly = int(
                truth.touched(pages, region.last_from_ns - SLACK_NS, region.to_ns + SLACK_NS).sum()
            )
        surely = max(0, surely - samples_between)
        if quiet_ns is not None:
            since_ns = max(region.from_ns - quiet_ns, (region.last_to_ns or 0) + SLACK_NS)
            surely = _surely(truth, pages, since_ns, region.from_ns - SLACK_NS)
        low += surely * page_size()
        high += possibly * page_size()
    return low, high


def _surely(truth: Truth, pages: Pages, since_ns: int, until_ns: int) -> int:
    """Return how many pages were certainly touched within [since_ns, until_ns).

    They were touched in both halves of it: one pass of the target is not enough, because it may have lost its
    CPU in the middle.
    """
    middle = (since_ns + until_ns) // 2
    if not since_ns < middle < until_ns:
        return 0
    return int((truth.touched(pages, since_ns, middle) & truth.touched(pages, middle, until_ns)).sum())

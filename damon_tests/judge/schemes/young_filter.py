# SPDX-License-Identifier: GPL-2.0
"""How many bytes a ``young`` filter must let through, from when it asked and from who touched what.

A scheme with such a filter asks every page of a region when it is tried on it, and clears what it found:
the next answer is about accesses since then. When that was is known from damos_before_apply of the
scheme itself (not earlier) and of a watching scheme after it in the list (not later).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from damon_tests.damon.trace import BeforeApplyEvent
from damon_tests.ports import NSEC_PER_MSEC, PAGE_SIZE, Pages, Truth

SLACK_NS = 50 * NSEC_PER_MSEC
"""A touch's time is known as well as its pass is short: passes over little memory take far less than that,
unless the target loses its processor. Only makes the bounds wider."""


@dataclass(frozen=True)
class Asked:
    """Pages of [start, end) were asked within [from_ns, to_ns], and the time before within
    [last_from_ns, last_to_ns]; that is None when it was the first time."""

    start: int
    end: int
    from_ns: int
    to_ns: int
    last_from_ns: int | None
    last_to_ns: int | None


def questions(
    events: Sequence[BeforeApplyEvent], scheme_idx: int, watcher_idx: int, count: int
) -> list[Asked]:
    """Return the first ``count`` regions that a scheme asked, in order. Regions must always be the same ones.

    ``watcher_idx``: a scheme later in the list that is tried on every region.
    """
    found: list[Asked] = []
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
            found.append(asked)
            last[key] = asked
            pending = None
    return found[:count]


def young_bytes(
    asked: Sequence[Asked], truth: Truth, samples_between: int, quiet_ns: int | None = None
) -> tuple[int, int]:
    """Return the fewest and most bytes that were young, over all the questions.

    ``truth`` is about the asked address space. Monitoring clears an accessed bit with each sample, of one
    page in each region: up to ``samples_between`` pages may be found old for that. The first
    time all pages are young: nobody cleared them since they came into being. ``quiet_ns``: how long no sample
    was begun before each question, the sampling interval; then what was touched since is young for certain,
    and nothing else, however much of it a sample cleared before.
    """
    low = high = 0
    for one in asked:
        pages = np.arange(one.start // PAGE_SIZE, one.end // PAGE_SIZE, dtype=np.int64)
        surely = possibly = len(pages)
        if one.last_from_ns is not None and one.last_to_ns is not None:
            surely = _surely(truth, pages, one.last_to_ns + SLACK_NS, one.from_ns - SLACK_NS)
            possibly = int(truth.touched(pages, one.last_from_ns - SLACK_NS, one.to_ns + SLACK_NS).sum())
        surely = max(0, surely - samples_between)
        if quiet_ns is not None:
            since_ns = max(one.from_ns - quiet_ns, (one.last_to_ns or 0) + SLACK_NS)
            surely = _surely(truth, pages, since_ns, one.from_ns - SLACK_NS)
        low += surely * PAGE_SIZE
        high += possibly * PAGE_SIZE
    return low, high


def _surely(truth: Truth, pages: Pages, since_ns: int, until_ns: int) -> int:
    """Return how many pages were certainly touched in between: in both halves of it, so that one pass in
    which the target lost its processor, whose touches may have been at any time of it, is not enough."""
    middle = (since_ns + until_ns) // 2
    if not since_ns < middle < until_ns:
        return 0
    return int((truth.touched(pages, since_ns, middle) & truth.touched(pages, middle, until_ns)).sum())

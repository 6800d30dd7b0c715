# SPDX-License-Identifier: GPL-2.0
"""Check where DAMON splits regions: at one to nine tenths, each equally often (§2.7).

Two passes of a scheme show the splits: the pass at an aggregation prints the regions before, the next pass
the parts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from damon_tests.judge.monitoring.closed_forms import fixed_rate
from damon_tests.judge.schemes.watched_passes import WatchedPass
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import page_size
from damon_tests.ports.ranges import Range

TENTHS = range(1, 10)
NOWHERE = 0
"""What ``tenth_of`` returns for a cut that is at no tenth."""


def cuts(passes: Sequence[WatchedPass]) -> Iterator[tuple[int, int]]:
    """Yield (size, offset) in bytes of every cut between an aggregation and the pass after it."""
    for before, after in pairwise(passes):
        if before.aggregated and not after.aggregated:
            parents, parts = ([(v.region.start, v.region.end) for v in p.visits] for p in (before, after))
            yield from _cuts_of(parents, parts)


def _cuts_of(parents: Iterable[Range], parts: Sequence[Range]) -> Iterator[tuple[int, int]]:
    """Yield the cuts of each parent; a third part is cut from the left of the first two."""
    for start, end in parents:
        size = end - start
        for at in sorted((s for s, _ in parts if start < s < end), reverse=True):
            yield size, at - start
            size = at - start


def tenth_of(size: int, offset: int) -> int:
    """Return the tenth, 1 to 9, at ``offset`` of a region of ``size`` bytes, aligned down to a page.

    NOWHERE: at none.
    """
    return next((n for n in TENTHS if n * size // 10 // page_size() * page_size() == offset), NOWHERE)


def _smallest() -> int:
    """Return the smallest region, in bytes, each tenth of which begins at another page."""
    return 10 * page_size()


def evenly_cut(passes: Sequence[WatchedPass], alpha: float) -> list[Check]:
    """Check that every cut is at a tenth, and that all tenths are equally frequent: exact on both sides.

    ``alpha``: the probability that a correct DAMON fails one of them. Undecided without any cut.
    """
    chosen = [(size, offset) for size, offset in cuts(passes) if size >= _smallest()]
    cuts_at = Counter(tenth_of(size, offset) for size, offset in chosen)
    elsewhere = next((f"{o} of {s} bytes" for s, o in chosen if tenth_of(s, o) == NOWHERE), "")
    m = Measurement("cuts elsewhere than at a tenth", float(cuts_at[NOWHERE]), "cuts")
    why = f"regions are cut at one to nine tenths, aligned down; {len(chosen)} cuts (§2.7)"
    holds = None if not chosen else not cuts_at[NOWHERE]
    checks = [Check("invariant", m, "== 0", why, holds, elsewhere)]
    for n in TENTHS if chosen else ():
        hits = [1] * cuts_at[n] + [0] * (len(chosen) - cuts_at[n])
        why = f"each tenth is drawn alike, once in 9 of {len(chosen)} cuts (§2.7)"
        checks.append(fixed_rate(f"cuts at tenth {n}", hits, 1, 1 / 9, alpha / 9, because=why))
    return checks

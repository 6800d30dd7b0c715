# SPDX-License-Identifier: GPL-2.0
"""Compute the limits that DAMON's own rules set, from a request and a level.

Section numbers are those of the project's DAMON specification (kernel 7.3, with its differences).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from damon_tests.damon.params import DamonCtx
from damon_tests.damon.records import Snapshot
from damon_tests.damon.series import Series
from damon_tests.ports import page_size
from damon_tests.ports.arrays import U64
from damon_tests.ports.ranges import Range, joined


def min_region_sz(ctx: DamonCtx) -> int:
    """Return m, the smallest region in core address units (1.3): a page, divided by addr_unit with paddr."""
    return max(page_size() // ctx.addr_unit, 1) if ctx.operations == "paddr" else page_size()


def is_power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


def size_limit(total: int, min_nr_regions: int, m: int, *, rounded: bool = True) -> int:
    """Return L (2.6): the largest region that min_nr_regions allows, for ``total`` monitored memory.

    ``rounded``: up to a multiple of m, as since 7.1; before, L only limited merging.
    """
    limit = max(total // min_nr_regions, m)
    return -(-limit // m) * m if rounded else limit


def first_pieces(ranges: Iterable[Range], min_nr_regions: int, m: int, level: Series) -> list[Range]:
    """Return the regions of vaddr's first layout (2.6): since 7.1, pieces of size L from each range's start.

    Before 7.1, each range is cut into size / L equal pieces, and the last piece takes the rest.
    """
    all_ranges = list(ranges)
    total = sum(end - start for start, end in all_ranges)
    limit = size_limit(total, min_nr_regions, m, rounded=level.enforces_min_nr_regions)
    pieces = []
    for start, end in all_ranges:
        size, count = limit, -(-(end - start) // limit)
        if not level.enforces_min_nr_regions:
            count = max(1, (end - start) // limit)
            size = (end - start) // count // m * m
        cuts = [start + i * size for i in range(count)]
        pieces += list(pairwise([*cuts, end]))
    return pieces


def split_offsets(sizes: U64, m: int) -> U64:
    """Return the offsets at which one split step can cut each region (2.7, I15), uint64 (n, 90).

    One to nine tenths of the size, rounded down to m; a three-way split cuts the left part once more. 0:
    none.
    """
    tenths = np.arange(1, 10, dtype=np.uint64)
    once = _tenths(sizes[:, None], tenths, m)
    twice = _tenths(once[:, :, None], tenths, m).reshape(len(sizes), 81)
    return np.concatenate([once, twice], axis=1)


def _tenths(sizes: U64, tenths: U64, m: int) -> U64:
    offsets: U64 = sizes * tenths // np.uint64(10) // np.uint64(m) * np.uint64(m)
    return offsets


def achievable_min(ranges: Iterable[Range], limit: int) -> int:
    """Return the fewest regions that L allows: the sum over the ranges of ceil(size / L) (I11)."""
    return sum(-(-(end - start) // limit) for start, end in ranges)


def packing_max(ranges: Iterable[Range], limit: int) -> int:
    """Return the most regions that a merge at the highest threshold can leave.

    Any two neighbours then exceed L together, so a range of size Z holds at most
    2 * ((Z - 1) div L) + 1 of them.
    """
    return sum(2 * ((end - start - 1) // limit) + 1 for start, end in ranges)


def growth_bound(n: int, max_nr_regions: int, level: Series) -> int:
    """Return the most regions that one split step can make of ``n`` regions (2.7): I13, I16, I17."""
    m = max_nr_regions
    if n >= m:
        return n
    if n > m // 2:
        if not level.splits_near_max_nr_regions:
            return n
        step = m // (m - n)
        return n + -(-n // step)
    return 3 * n if n < m // 3 else 2 * n


def merge_passes(samples_per_aggr: int) -> int:
    """Return the most passes of one merge: thresholds 0, 1, 2, 4 ... up to W (2.5)."""
    return 2 + max(0, samples_per_aggr - 1).bit_length()


def extra_age(ctx: DamonCtx, level: Series, regions: int | None = None) -> int:
    """Return by how much more than 1 an age may grow in one aggregation (I29): 0 without a defect.

    With it, it grows in each pass of merging, and there are several passes only above max_nr_regions.
    ``regions``: how many there were after the aggregation before, of all targets; None: any number. The next
    split, schemes and min_nr_regions may make more of them until merging.
    """
    attrs = ctx.attrs
    if level.ages_once_per_aggregation:
        return 0
    if regions is not None:
        more = split_allowance(ctx) + (attrs.min_nr_regions if level.enforces_min_nr_regions else 0)
        if growth_bound(regions, attrs.max_nr_regions, level) + more <= attrs.max_nr_regions:
            return 0
    return merge_passes(attrs.samples_per_aggr) - 1


def contiguous(start: U64, end: U64) -> tuple[Range, ...]:
    """Return the ranges that ascending regions cover: regions that touch are joined."""
    if len(start) == 0:
        return ()
    breaks = np.flatnonzero(start[1:] != end[:-1])
    first = [int(start[0]), *start[breaks + 1].tolist()]
    last = [*end[breaks].tolist(), int(end[-1])]
    return tuple(zip(first, last, strict=True))


def covered(snapshot: Snapshot) -> tuple[Range, ...]:
    """Return the ranges that the snapshot's regions cover, in core address units."""
    return contiguous(snapshot.start, snapshot.end)


def aligned_union(ranges: Sequence[Range], m: int) -> tuple[Range, ...]:
    """Return the configured ranges as DAMON sets them (3.3): bounds rounded outwards to m, joined."""
    return tuple(joined((s // m * m, -(-e // m) * m) for s, e in ranges))


def three_ranges(vmas: Sequence[Range]) -> tuple[Range, ...] | None:
    """Return vaddr's initial layout (3.1): the mappings without their two largest gaps.

    None when there are fewer than two gaps: the target then has no regions.
    """
    gaps = [(b[0] - a[1], i) for i, (a, b) in enumerate(pairwise(vmas))]
    # Sorting is stable: of equal gaps the earlier one is taken.
    largest = sorted(gaps, key=lambda gap: -gap[0])[:2]
    if len(largest) < 2 or largest[1][0] == 0:
        return None
    lower, upper = sorted(index for _, index in largest)
    bounds = [vmas[0][0], vmas[lower][1], vmas[lower + 1][0], vmas[upper][1], vmas[upper + 1][0], vmas[-1][1]]
    up = [-(-b // page_size()) * page_size() for b in bounds]
    return ((up[0], up[1]), (up[2], up[3]), (up[4], up[5]))


def schemes_split(ctx: DamonCtx) -> bool:
    """Return whether schemes may cut regions: one has a quota or an address filter."""
    return any(_has_quota(s.quota) or _address_filters(s) for s in ctx.schemes)


def schemes_act(ctx: DamonCtx) -> bool:
    """Return whether schemes may reset ages (I31): one has an action other than stat."""
    return any(s.action != "stat" for s in ctx.schemes)


def split_allowance(ctx: DamonCtx) -> int:
    """Return how many regions schemes may add in one pass (I14).

    It is 2 for each scheme with a quota, and 2 for each address filter bound and target.
    """
    quotas = sum(2 for s in ctx.schemes if _has_quota(s.quota))
    bounds = sum(2 * _address_filters(s) for s in ctx.schemes)
    return quotas + 2 * bounds * max(1, len(ctx.targets))


def _has_quota(quota: object) -> bool:
    return any(getattr(quota, name) for name in ("ms", "bytes", "goals"))


def _address_filters(scheme: object) -> int:
    lists = (getattr(scheme, name) for name in ("core_filters", "ops_filters", "filters"))
    return sum(f.type == "addr" for filters in lists for f in filters)

# SPDX-License-Identifier: GPL-2.0
"""Walks over physical memory that begin inside a huge page visit the small pages behind it (§8.3, 25)."""

from dataclasses import replace

import numpy as np
import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, DamonTarget, Damos, DamosFilter
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.patterns.spec import Pattern, PatternRegion, Phase
from damon_tests.ports import huge_page_size, page_size

MIB = 1 << 20
HUGE = huge_page_size()
# In turn, and many, so that some small pages are behind a huge one in physical memory, too.
REGIONS = [
    PatternRegion(f"small{i}" if i % 2 else f"huge{i}", max(16 * MIB, HUGE), hugepage=i % 2 == 0)
    for i in range(16)
]
BESIDE = Pattern("beside", "small and huge pages in turn", tuple(REGIONS), (Phase("idle", 3600 * 10**9, ()),))
ANON = Damos("stat", ANY, ops_filters=(DamosFilter("anon", matching=True, allow=True),))
# Three ranges of the same size, never split. Two are where this machine has no memory.
ATTRS = DamonAttrs(min_nr_regions=3, max_nr_regions=3)
NOWHERE = 1 << 42


def block_with_small_pages_behind(huge, small):
    """Return the first frame of a huge page that has the most small pages behind it, and how many."""
    count = HUGE // page_size()
    heads = huge[huge % count == 0]
    behind = [int(((small >= head + count) & (small < head + 2 * count)).sum()) for head in heads]
    best = int(np.argmax(behind)) if len(heads) else -1
    return (int(heads[best]), behind[best]) if best >= 0 else (0, 0)


@pytest.mark.known_defect("walk-skips-pages-behind-huge-page")
@pytest.mark.needs("ops.paddr", "commands.commit", "ops_filters.anon", "tried_regions.sz_filter_passed")
def test_small_pages_behind_half_a_huge_page_are_visited(live, expect):
    """All small pages pass the filter in a region of half a huge page and of what is behind it."""
    with live(BESIDE, DamonCtx("paddr", attrs=ATTRS), cover="regions", source="none") as run:
        pages = {region.name: run.pages(region.name) for region in REGIONS}
        frames = [s.frame[s.present & s.huge & s.lru] for name, s in pages.items() if name.startswith("huge")]
        small = np.concatenate([s.frame[s.present & s.lru] for name, s in pages.items() if name[0] == "s"])
        head, behind = block_with_small_pages_behind(np.concatenate(frames), small)
        start = head * page_size() + HUGE // 2
        ranges = tuple((at, at + 3 * HUGE // 2) for at in (start, NOWHERE, NOWHERE + (1 << 30)))
        run.commit(replace(run.ctx, targets=(DamonTarget(regions=ranges),), schemes=(ANON,)))
        run.record(0.3)
        regions = run.client.tried_regions(0, 0, update=True).regions
    there = Measurement("small pages behind the huge page", behind, "pages")
    expect.add(Check("invariant", there, ">= 1", "else nothing is tested", behind >= 1 or None))
    passed = int(regions.sz_filter_passed[regions.start == start].sum())
    m = Measurement("bytes that passed", passed, "bytes")
    why = "the huge page counts once, and each small page behind it (§4.10)"
    expect.equal(m, HUGE + behind * page_size(), because=why)

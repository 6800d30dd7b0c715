# SPDX-License-Identifier: GPL-2.0
"""pageout of mapped files on a disk: clean pages can go, dirty ones would have to be written back first."""

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.judge.schemes import effects
from damon_tests.judge.verdict import Measurement
from damon_tests.patterns.spec import Action, Pattern, PatternRegion, Phase
from damon_tests.ports import NSEC_PER_SEC, page_size
from damon_tests.scenario.acting import BEFORE_APPLY, act, scheme

pytestmark = pytest.mark.needs("schemes.pageout", BEFORE_APPLY, disk_mib=64)

MIB = 1 << 20
ATTRS = DamonAttrs(min_nr_regions=10, max_nr_regions=100)
WATCHED = {"cover": "regions", "extra_events": [BEFORE_APPLY]}
# Each in a mapping of its own. Both were written to; nobody writes them back but the action.
FILES = Pattern(
    name="clean_and_dirty",
    reason="a file that was written back beside one that was not but for a page, left alone",
    regions=tuple(PatternRegion(name, 8 * MIB, memory="file") for name in ("clean", "dirty")),
    phases=(
        Phase(
            "idle",
            3600 * NSEC_PER_SEC,
            (),
            (Action("msync", 0, "clean", 0, 8 * MIB), Action("msync", 0, "dirty", 0, page_size())),
        ),
    ),
    gap_bytes=2 * MIB,
)
SLACK = MIB
"""Bytes: other files' pages, and what each processor has not yet added to the kernel's count."""


def in_page_cache(run):
    return run.subject.memory_info().counters["nr_file_pages"] * page_size()


@pytest.mark.parametrize("ops", ["paddr", pytest.param("fvaddr", marks=pytest.mark.profile("full"))])
def test_pageout_drops_clean_file_pages_and_keeps_dirty_ones(live, expect, ops):
    """pageout removes all of a file that was written back from memory, and nothing of one that is still
    dirty.

    A dirty page is unmapped before it is found dirty, so page-out of file pages is measured by what stays in
    the page cache, of both files together. madvise() promises no more: some of the pages that it unmapped may
    stay in the page cache.
    """
    with live(FILES, DamonCtx(ops, attrs=ATTRS), **WATCHED) as run:
        run.record(1)  # the pattern has begun, and its files are as they should be
        physical = run.target.physical()
        ranges = physical.values() if ops == "paddr" else [[span] for span in run.target.layout.values()]
        much = in_page_cache(run)
        done = act(run, scheme("pageout"), over=sorted(r for some in ranges for r in some), passes=3)
        left = much - in_page_cache(run)
    before, after = done.pair("clean")
    effect = effects.effect(before, after, before.present, lambda pages: ~pages.present & ~pages.swapped)
    why = "evictable pages are reclaimed, and clean pages of files are evictable (§4.10)"
    expect.add(effects.takes_effect("pageout, clean", effect, why, least=7 * MIB))
    m = Measurement("bytes of files that left memory", left, "bytes")
    if ops == "paddr":
        expect.at_least(m, 8 * MIB - SLACK, because="all pages of the clean file left the page cache")
    expect.at_most(m, 8 * MIB + SLACK, because="the dirty file, of the same size, stays in the page cache")

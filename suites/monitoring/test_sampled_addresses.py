# SPDX-License-Identifier: GPL-2.0
"""Which page of a region is sampled: every one with the same probability, in every sampling interval.

Regions are ranges with gaps between them, as many as are allowed: none is merged or split, so that their
counts are sums of independent samples. Of the 16 pages of each, some are touched in every sampling interval
and the others never. Then the sum of all counts is binomial, and tested exactly.
"""

from dataclasses import replace
from itertools import pairwise

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx, DamonTarget
from damon_tests.judge.monitoring import closed_forms
from damon_tests.judge.monitoring.aggregation_windows import windows
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.patterns.spec import Access, Pattern, PatternRegion, Phase
from damon_tests.ports import NSEC_PER_SEC, PAGE_SIZE
from damon_tests.scenario.invariants import invariants

pytestmark = [
    pytest.mark.accuracy,
    pytest.mark.needs("ops.fvaddr", "damon_aggregated", "commands.commit"),
]

REGIONS, PAGES = 20, 16
APART = 18 * PAGE_SIZE
"""From one region to the next: two pages between them are not monitored, so that pages of the same number in
their regions have addresses of the same parity."""
ATTRS = DamonAttrs(
    sample_us=10_000, aggr_us=200_000, min_nr_regions=REGIONS, max_nr_regions=REGIONS, update_us=60_000_000
)
ALPHA = 1e-6
"""False alarms of each test. In 5,000 samples it notices 0.54 instead of 0.5, and 0.08 instead of 1/16."""

# (first page, page behind the last, step) of those touched in each region
TOUCHED = {
    "every_second_page": (0, 16, 2),
    "every_fourth_page": (1, 16, 4),
    "first_half": (0, 8, 1),
    "first_page": (0, 1, 1),
    "last_page": (15, 16, 1),
}


def touching(name):
    first, behind, step = TOUCHED[name]
    access = Access(
        "data",
        first * PAGE_SIZE,
        behind * PAGE_SIZE,
        stride_bytes=step * PAGE_SIZE,
        islands=REGIONS,
        every_bytes=APART,
    )
    return Pattern(
        name=name,
        reason="some pages of each region are always in use",
        regions=(PatternRegion("data", REGIONS * APART),),
        phases=(Phase("touch", 3600 * NSEC_PER_SEC, (access,)),),
    )


@pytest.mark.parametrize("touched", TOUCHED)
def test_every_page_is_sampled_as_often(live, expect, touched):
    """Of a region's samples as large a share hits as there are pages in use, whichever these are."""
    with live(touching(touched), DamonCtx("fvaddr", attrs=ATTRS), cover="regions") as run:
        start, _ = run.target.layout["data"]
        ranges = tuple((start + i * APART, start + i * APART + PAGES * PAGE_SIZE) for i in range(REGIONS))
        run.commit(replace(run.ctx, targets=(DamonTarget(run.target.pid, ranges),)))
        run.record(3, aggregations=12)
    expect.add(invariants(run))
    part = run.parts()[1].recording
    wrong = [f"{found}" for s in part.snapshots if (found := regions_of(s)) != list(ranges)]
    expect.nothing("other regions", wrong, because="ranges apart are not merged, and no more regions may be")
    hits = [] if wrong else [int(n) for s in undisturbed(run, part) for n in s.nr_accesses]
    m = Measurement("regions counted", len(hits), "count")
    why = "12 aggregations of 20 regions were asked for; half of them may be disturbed"
    expect.add(Check("closed form", m, ">= 120", why, True if len(hits) >= 120 else None))
    if hits:
        share = len(range(*TOUCHED[touched])) / PAGES
        why = "each sample is of a page drawn evenly from its region (§3.4)"
        expect.add(
            closed_forms.fixed_rate(
                f"hits of {touched}", hits, ATTRS.samples_per_aggr, share, ALPHA, because=why
            )
        )


def regions_of(snapshot):
    return list(zip(snapshot.start.tolist(), snapshot.end.tolist(), strict=True))


def undisturbed(run, part):
    """Return the snapshots of windows in which the target touched its pages in every sampling interval."""
    times = [*run.observation.irregular, *run.observation.disturbances]
    for before, after in pairwise(windows(part)):
        # A sample may look back to the window before.
        if not any(start < after.t1_ns and before.t0_ns < end for start, end in times):
            yield after.snapshot

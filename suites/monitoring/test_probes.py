# SPDX-License-Identifier: GPL-2.0
"""Data attribute probes: which kind of memory is sampled, beside how often it is accessed."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx, DamonProbe, DamonProbeFilter
from damon_tests.judge.monitoring.aggregation_windows import windows
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import TreeError
from damon_tests.scenario.invariants import invariants
from damon_tests.workload.frame_truth import frame_ranges

pytestmark = pytest.mark.needs("ops.paddr", "attrs.probes", "damon_region_aggregated")

ATTRS = DamonAttrs(min_nr_regions=10, max_nr_regions=100)
ALWAYS = DamonProbe()
ANON = DamonProbe(filters=(DamonProbeFilter("anon", matching=True, allow=True),))
NOT_ANON = DamonProbe(filters=(DamonProbeFilter("anon", matching=False, allow=True),))
NEVER = DamonProbe(filters=(DamonProbeFilter("anon", True, False), DamonProbeFilter("anon", False, False)))


def hits(run, probe, inside=((0, 1 << 62),), since_ns=0):
    """Return, for each aggregation, a probe's hits in the regions that lie in one of the ranges."""
    counts = []
    for window in windows(run.recording()):
        snap = window.snapshot
        if snap.probe_hits is not None and window.t0_ns > since_ns:
            mine = np.zeros(len(snap), np.bool_)
            for start, end in inside:
                mine |= (snap.start >= start) & (snap.end <= end)
            counts.append(snap.probe_hits[mine, probe].astype(int))
    return counts


def test_probes_hit_what_their_filters_allow(live, expect):
    """A probe without filters hits in every sample, one that rejects everything in none, and anon and not-
    anon probes hit in complementary samples."""
    attrs = replace(ATTRS, probes=(ALWAYS, ANON, NOT_ANON, NEVER))
    with live("idle", DamonCtx("paddr", attrs=attrs), cover="regions") as run:
        run.record(1.5)
        listed = run.pages("data").lru
    expect.add(invariants(run))  # I27, I28
    w = attrs.samples_per_aggr
    both = [int((a + b).max()) for a, b in zip(hits(run, 1), hits(run, 2), strict=True)]
    m = Measurement("most hits of anon and not anon", max(both), "samples", tuple(map(float, both)))
    expect.at_most(
        m, w, because="a page is anonymous or not, and merging only truncates (§2.10)", kind="closed form"
    )
    never = max(int(h.max()) for h in hits(run, 3))
    m = Measurement("hits of a probe that rejects everything", never, "samples")
    expect.equal(
        m,
        0,
        because="both filters reject, and the first one that matches decides (§2.10)",
        kind="closed form",
    )
    # A frame on no LRU list has no folio (§3.5), so it is not anonymous. Of all others every sample hits;
    # merging means of W is W.
    known = frame_ranges(run.frames["data"][listed])
    anon = np.concatenate(hits(run, 1, known))
    m = Measurement("fewest hits of anonymous frames", float(anon.min(initial=w)), "samples")
    why = f"these frames are anonymous and on an LRU list before and after; {len(anon)} regions checked"
    expect.equal(m, w, because=why, kind="closed form")
    m = Measurement(
        "most hits of what they are not", float(max(h.max(initial=0) for h in hits(run, 2, known))), "samples"
    )
    expect.equal(m, 0, because=why, kind="closed form")
    m = Measurement("regions of anonymous frames", len(anon), "count")
    expect.add(
        Check(
            "closed form",
            m,
            ">= 1",
            "anonymous frames were monitored; else nothing is tested",
            True if len(anon) else None,
        )
    )


@pytest.mark.needs("probe_filters.memcg", "commands.commit")
def test_memcg_probe_hits_exactly_its_group(live, expect):
    """A memcg probe hits the frames of its control group in every sample, and those of others in none."""
    attrs = replace(ATTRS, probes=(ALWAYS, ALWAYS, ALWAYS))
    with live("own_memcg", DamonCtx("paddr", attrs=attrs), cover="regions") as run:
        run.record(0.5)
        group = run.target.memcg  # has its name since the target runs
        mine, others, parent = (
            DamonProbe(filters=(DamonProbeFilter("memcg", matching, True, path),))
            for matching, path in ((True, group), (False, group), (True, group.rpartition("/")[0] or "/"))
        )
        run.commit_attrs(replace(ATTRS, probes=(mine, others, parent)))
        run.record(1, aggregations=3)
        listed = run.pages("data").lru
    known, since_ns = frame_ranges(run.frames["data"][listed]), run.commits[-1].end_ns
    counts = [np.concatenate(hits(run, i, known, since_ns)) for i in range(3)]
    why = f"all {len(counts[0])} regions are frames of this group, on an LRU list before and after (§2.10)"
    m = Measurement("fewest hits of the group's own frames", float(counts[0].min(initial=99)), "samples")
    expect.equal(m, ATTRS.samples_per_aggr, because=why, kind="closed form")
    for name, nr_hits in (("what is not in the group", counts[1]), ("the parent group", counts[2])):
        m = Measurement(f"most hits of a probe for {name}", float(nr_hits.max(initial=0)), "samples")
        expect.equal(m, 0, because=why, kind="closed form")


@pytest.mark.needs("probes.weight")
def test_weighted_probes_replace_access_checks(live, expect):
    """With a weighted probe DAMON checks no accesses, and regions age by the hits of the probe alone."""
    attrs = replace(ATTRS, probes=(replace(ALWAYS, weight=1),))
    with live("everything_hot", DamonCtx("paddr", attrs=attrs), cover="regions") as run:
        run.record(1.5)
    expect.add(invariants(run))  # I26: nr_accesses is 0; I28: every sample hits
    ages = [(int(s.age.min()), int(s.age.max())) for s in run.recording().snapshots]
    wrong = [f"{a} then {b}" for a, b in pairwise(ages) if b != (a[0] + 1, a[1] + 1)]
    expect.nothing(
        "ages of a constant attribute",
        wrong,
        because="the weighted hits never change, so that ages grow by one (§2.5)",
        kind="closed form",
        judged=len(ages) - 1,
    )


@pytest.mark.needs("probes.weight")
@pytest.mark.known_defect("merges-in-32-bits")
def test_regions_age_by_the_weighted_sum_of_all_probes(live, expect):
    """Memory of both kinds ages as long as the weighted sum of two probes stays, though neither's hits do."""
    # Of 100 samples the hits of one kind vary by 5 to either side, and an age restarts beyond 10 of them.
    # At most 4 of 14 regions are merged, each of which truncates the sum of two means by less than 2.
    attrs = replace(ATTRS, sample_us=2_000, aggr_us=200_000, min_nr_regions=10, max_nr_regions=14)
    attrs = replace(attrs, probes=(replace(ANON, weight=2), replace(NOT_ANON, weight=2)))
    with live("half_used", DamonCtx("paddr", attrs=attrs)) as run:
        run.record(2, aggregations=8)
    expect.add(invariants(run))
    snaps = [s for s in run.recording().snapshots if s.complete]
    wrong = [
        f"{a.age.min()}..{a.age.max()} then {b.age.min()}..{b.age.max()}"
        for a, b in pairwise(snaps)
        if (b.age.min(), b.age.max()) != (a.age.min() + 1, a.age.max() + 1)
    ]
    why = "each sample hits one of both probes of weight 2, so that the sum never changes (§2.10)"
    expect.nothing("ages that restarted", wrong, because=why, kind="closed form", judged=len(snaps) - 1)
    mixed = max(float((h * (attrs.samples_per_aggr - h)).max()) for h in hits(run, 0))
    m = Measurement("most samples of one kind beside the other", mixed, "samples squared")
    why = "a region has memory of both kinds; else the hits of each probe stay, too"
    expect.add(Check("closed form", m, ">= 100", why, True if mixed >= 100 else None))


@pytest.mark.needs("probes.weight")
def test_weights_that_overflow_are_refused(live, expect):
    """on refuses weights whose sums would not fit, with EINVAL."""
    attrs = replace(ATTRS, aggr_us=ATTRS.sample_us * 256, probes=(replace(ALWAYS, weight=1),))
    try:
        with live("idle", DamonCtx("paddr", attrs=attrs), cover="regions", source="none"):
            answer = "accepted"
    except TreeError as error:
        answer = error.errno_name
    expect.nothing(
        "answers",
        [] if answer == "EINVAL" else [answer],
        because="with weights an aggregation has 255 samples at most (§1.5)",
    )

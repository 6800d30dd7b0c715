# SPDX-License-Identifier: GPL-2.0
"""Probes of a running context, changed by commits: weights, and what their filters allow."""

from dataclasses import replace

import numpy as np
import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx, DamonProbe, DamonProbeFilter
from damon_tests.judge.monitoring.aggregation_windows import windows
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.scenario.invariants import invariants
from damon_tests.workload.frame_truth import frame_ranges

pytestmark = pytest.mark.needs("ops.paddr", "attrs.probes", "damon_region_aggregated", "commands.commit")

ATTRS = DamonAttrs(min_nr_regions=10, max_nr_regions=100)


def steps(live, pattern, *probes):
    """Monitor under each of the probes in turn; return the run, and the whole windows of each turn."""
    first, *others = (replace(ATTRS, probes=(probe,)) for probe in probes)
    with live(pattern, DamonCtx("paddr", attrs=first), cover="regions") as run:
        run.record(0.8, aggregations=4)
        for attrs in others:
            run.commit_attrs(attrs)
            run.record(0.8, aggregations=4)
        listed = run.pages("data").lru
    begins = [run.recording().started_ns, *(commit.end_ns for commit in run.commits[1:])]
    ends = [*(commit.begin_ns for commit in run.commits[1:]), run.recording().stopped_ns]
    turns = [
        [w.snapshot for w in windows(run.recording()) if begin < w.t0_ns and w.t1_ns < end]
        for begin, end in zip(begins, ends, strict=True)
    ]
    return run, turns, frame_ranges(run.frames["data"][listed])


def expect_shown(expect, turns):
    m = Measurement("fewest aggregations under one request", min(map(len, turns)), "count")
    why = "each request is shown by an aggregation; else nothing is tested"
    expect.add(Check("closed form", m, ">= 1", why, True if all(turns) else None))


@pytest.mark.accuracy
@pytest.mark.needs("probes.weight")
def test_committed_weights_turn_access_checks_off_and_on(live, expect):
    """A weight committed online replaces access checks, and without it they come back."""
    plain, weighted = DamonProbe(), DamonProbe(weight=1)
    run, turns, _ = steps(live, "everything_hot", plain, weighted, plain)
    expect.add(invariants(run))
    expect_shown(expect, turns)
    most = [max((int(s.nr_accesses.max()) for s in turn), default=0) for turn in turns]
    why = "with weights DAMON samples its probes instead of accesses (§2.10)"
    for name, count in (("before", most[0]), ("without weights again", most[2])):
        expect.at_least(Measurement(f"most accesses {name}", count, "samples"), 1, because=why)
    expect.equal(Measurement("most accesses with weights", most[1], "samples"), 0, because=why)


def test_committed_allow_turns_hits_on_and_off(live, expect):
    """A probe that rejects anonymous pages, then allows them, then rejects them again hits them only while
    it allows them."""
    rejects, allows = (
        DamonProbe(filters=(DamonProbeFilter("anon", True, allow),)) for allow in (False, True)
    )
    _, turns, known = steps(live, "idle", rejects, allows, rejects)
    expect_shown(expect, turns)
    why = "the first filter that matches decides, as it was committed last (§2.10)"
    for number, (turn, wanted) in enumerate(zip(turns, (0, ATTRS.samples_per_aggr, 0), strict=True)):
        counts = np.concatenate(
            [np.zeros(0, int), *(s.probe_hits[_inside(s, known), 0].astype(int) for s in turn)]
        )
        m = Measurement(
            f"request {number}: regions without {wanted} hits", int((counts != wanted).sum()), "count"
        )
        holds = not m.value if len(counts) else None
        expect.add(
            Check("closed form", m, "== 0", f"{why}; {len(counts)} regions of anonymous frames", holds)
        )


def _inside(snapshot, ranges):
    mine = np.zeros(len(snapshot), np.bool_)
    for start, end in ranges:
        mine |= (snapshot.start >= start) & (snapshot.end <= end)
    return mine

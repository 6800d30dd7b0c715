# SPDX-License-Identifier: GPL-2.0
"""What DAMON reports in several ways, tracepoints and files, must agree."""

from dataclasses import replace

import numpy as np
import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, DamonProbe, Damos
from damon_tests.damon.series import Series
from damon_tests.damon.trace import AggregatedEvent, RegionAggregatedEvent
from damon_tests.judge.monitoring.invariants import tried_regions
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import NSEC_PER_USEC
from damon_tests.scenario.invariants import invariants

ATTRS = DamonAttrs(min_nr_regions=10, max_nr_regions=100)
EVERYTHING = Damos("stat", ANY)


@pytest.mark.needs("ops.paddr", "attrs.probes", "damon_region_aggregated", "damon_aggregated")
def test_both_aggregation_events_agree(live, expect):
    """damon_region_aggregated reports the same fields as
    damon_aggregated, event for event, and the probe hits."""
    ctx = DamonCtx("paddr", attrs=replace(ATTRS, probes=(DamonProbe(),)))
    with live("hot_cold", ctx, cover="regions", extra_events=["damon_aggregated"]) as run:
        run.record(1.5)
    expect.add(invariants(run))
    plain = [_fields(e) for e in run.session.events("damon_aggregated") if isinstance(e, AggregatedEvent)]
    probed = run.session.events("damon_region_aggregated")
    with_hits = [_fields(e) for e in probed if isinstance(e, RegionAggregatedEvent)]
    count = Measurement("damon_region_aggregated events", len(with_hits), "count")
    expect.equal(
        count, len(plain), because="both events are traced for every region of every aggregation (§7)"
    )
    differing = [f"{a} and {b}" for a, b in zip(plain, with_hits, strict=False) if a != b]
    expect.nothing(
        "events that differ",
        differing,
        because="both events have the same fields of the same region (§7)",
        judged=len(plain),
    )


def _fields(event):
    return event.target_id, event.nr_regions, event.start, event.end, event.nr_accesses, event.age


@pytest.mark.needs("ops.fvaddr", "schemes.stat", "damon_aggregated", "commands.update_schemes_tried_regions")
@pytest.mark.parametrize("pattern", ["hot_cold", "many_islands"])
def test_tried_regions_match_their_aggregation(live, expect, pattern):
    """A scheme that matches everything is tried on the regions of
    its aggregation, with their counts and ages."""
    ctx = DamonCtx("fvaddr", attrs=ATTRS, schemes=(EVERYTHING,))
    tried = []
    with live(pattern, ctx, cover="regions", source="events") as run:
        run.record(0.7)
        for _ in range(5):
            begin = run.clock.now_ns()
            tried.append((begin, run.client.tried_regions(0, 0)))
            run.record(0.25)
    expect.add(invariants(run))
    wrong, judged = [], 0
    for begin, answer in tried:
        expect.add(tried_regions(answer))
        waited_us = (answer.regions.time_ns - begin) / NSEC_PER_USEC
        gives_up = not Series.of(run.level).waits_for_tried_regions
        if gives_up and not len(answer.regions) and waited_us >= 2 * ATTRS.aggr_us:
            continue  # these give up after two aggregation intervals, on a slow machine before any is over
        # The pass that was reported came after the request; it may have waited for the following one.
        until = answer.regions.time_ns + 2 * ATTRS.aggr_us * NSEC_PER_USEC
        near = [s for s in run.recording().snapshots if begin < s.time_ns < until]
        judged += bool(near)
        if near and not any(_made_of(s, answer.regions) for s in near):
            wrong.append(
                f"at {(begin - run.recording().started_ns) / 1e9:.3f} s: {len(answer.regions)} regions"
            )
    m = Measurement("requests that were judged", judged, "count")
    expect.add(
        Check(
            "invariant",
            m,
            ">= 1",
            "a request fell between aggregations; else nothing is tested",
            True if judged else None,
        )
    )
    why = "schemes see the regions that are reported next, with the same counts (§2.2, I21)"
    expect.nothing("tried regions of no aggregation", wrong, because=why)


def _made_of(snapshot, parts):
    """Whether every region is the union of parts with its count and age (equal neighbours are merged)."""
    if not len(parts) or snapshot.start[0] != parts.start[0] or snapshot.end[-1] != parts.end[-1]:
        return False
    if not np.isin(snapshot.start, parts.start).all():
        return False
    owner = np.searchsorted(snapshot.start, parts.start, side="right") - 1
    return bool(
        (snapshot.nr_accesses[owner] == parts.nr_accesses).all() and (snapshot.age[owner] == parts.age).all()
    )


@pytest.mark.needs("ops.fvaddr", "schemes.apply_interval_us", "damon_aggregated")
def test_moving_sum_of_constant_memory_is_constant(live, expect):
    """Between aggregations nr_accesses is a moving sum: 0 for idle
    memory, W for memory that is always in use (I22)."""
    often = replace(EVERYTHING, apply_interval_us=5_000)
    values = {}
    for pattern in ("idle", "everything_hot"):
        with live(
            pattern, DamonCtx("fvaddr", attrs=ATTRS, schemes=(often,)), cover="regions", source="events"
        ) as run:
            run.record(0.65)
            values[pattern] = []
            for _ in range(12):
                begin = run.clock.now_ns()
                regions = run.client.tried_regions(0, 0).regions
                if len(regions):
                    values[pattern].append((begin, regions.time_ns, regions))
                run.record(0.017)
            run.record(0.3)
        expect.add(invariants(run))
    w = ATTRS.samples_per_aggr
    silent = [float(r.nr_accesses.max()) for _, _, r in values["idle"]]
    m = Measurement("largest moving value of idle memory", max(silent, default=0), "samples", tuple(silent))
    expect.equal(m, 0, because="both windows of the sum have 0 accesses", kind="closed form")
    lowest = [
        float(r.nr_accesses.min())
        for begin, end, r in values["everything_hot"]
        if _full_around(run.recording(), begin, end)
    ]
    judged = min(len(silent), len(lowest))
    m = Measurement("reads that were judged", judged, "count")
    expect.add(
        Check(
            "closed form",
            m,
            ">= 1",
            "both idle and hot memory were read between aggregations",
            True if judged else None,
        )
    )
    slack = 0 if Series.of(run.level).computes_moving_values_exactly else 1  # I20
    m = Measurement("smallest moving value of hot memory", min(lowest, default=w), "samples", tuple(lowest))
    why = "it sums all samples of this window and a share of the last one (§2.9)"
    expect.between(m, w - slack, w + slack, because=why, kind="closed form")


def _full_around(recording, begin_ns, end_ns):
    """Whether the aggregations before, during and after [begin, end] saw every sample of every region."""
    snaps = recording.snapshots
    first = max((i for i, s in enumerate(snaps) if s.time_ns <= begin_ns), default=None)
    last = min((i for i, s in enumerate(snaps) if s.time_ns >= end_ns), default=None)
    if first is None or last is None:
        return False
    return all(int(s.nr_accesses.min()) == recording.samples_per_aggr for s in snaps[first : last + 1])

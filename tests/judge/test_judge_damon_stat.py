# SPDX-License-Identifier: GPL-2.0
"""Checks of DAMON_STAT's results: right results pass, wrong ones fail."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from damon_tests.damon.records import Snapshot
from damon_tests.judge.modules import stat
from damon_tests.judge.modules.stat import Partial, Refresh
from damon_tests.reference.rules.modules import bandwidth, idle_percentiles

MS = 1_000_000
MIB = 1 << 20


def snapshot(time_ms, sizes, ages, nr=None):
    ends = np.cumsum(np.array(sizes, np.uint64))
    count = len(sizes)
    return Snapshot(
        time_ms * MS,
        0,
        ends - np.array(sizes, np.uint64),
        ends,
        np.array(nr or [0] * count, np.uint32),
        np.array(ages, np.uint32),
        count,
    )


SIZES, AGES = (10 * MIB, 30 * MIB, 60 * MIB), (3, 20, 50)
REGIONS = snapshot(1000, SIZES, AGES)


def results(in_use=(), aggr_us=100_000):
    """Return the results that DAMON_STAT computes from REGIONS."""
    idle = [(age + 1) * aggr_us // 1000 * (-1 if i in in_use else 1) for i, age in enumerate(AGES)]
    return Refresh(1040 * MS, 1045 * MS, tuple(idle_percentiles(SIZES, idle, 101)), 0, aggr_us)


def failing(checks):
    return [c.measurement.name for c in checks if not c.holds]


def test_percentiles_of_traced_regions_hold():
    snapshots = [snapshot(900, [100 * MIB], [7]), REGIONS]
    for in_use in ((), (0,), (0, 1), (2,)):
        assert failing(stat.percentiles(results(in_use), snapshots)) == []


def test_percentiles_of_other_regions_fail():
    right = results()
    values = right.percentiles
    unweighted = tuple(idle_percentiles([1, 1, 1], [(a + 1) * 100 for a in AGES], 101))
    for wrong in (
        values[10:] + values[-1:] * 10,
        values[:1] * 10 + values[:-10],
        tuple(v - 100 for v in values),
        values[::-1],
        values[:-1],
        unweighted,
    ):
        assert failing(stat.percentiles(replace(right, percentiles=wrong), [REGIONS]))
    assert failing(stat.percentiles(right, []))


def test_idle_times_without_a_sign_are_those_of_6_17():
    """Before 6.18 an idle time is 0 while the region is accessed."""
    for in_use in ((), (0,), (2,)):
        idle = [0 if i in in_use else (age + 1) * 100 for i, age in enumerate(AGES)]
        values = tuple(idle_percentiles(SIZES, idle, 101))
        refresh = replace(results(), percentiles=values, signed=False)
        assert failing(stat.percentiles(refresh, [REGIONS])) == []
        if in_use:
            assert failing(stat.percentiles(replace(refresh, signed=True), [REGIONS]))
            assert failing(stat.percentiles(replace(results(in_use), signed=False), [REGIONS]))


def test_candidates_are_last_aggregation_and_those_during_refresh():
    snapshots = [snapshot(ms, [MIB], [1]) for ms in (800, 900, 1000, 1100)]
    refresh = Refresh(950 * MS, 960 * MS, (), 0, 100_000)
    assert [s.time_ns // MS for s in stat.candidates(refresh, snapshots)] == [900, 1000]
    refresh = Refresh(990 * MS, 1010 * MS, (), 0, 100_000)
    assert [s.time_ns // MS for s in stat.candidates(refresh, snapshots)] == [900, 1000, 1100]


def test_refresh_time_is_narrowed_to_five_seconds_after_last():
    observed = Refresh(5990 * MS, 6090 * MS, (), 0, 100_000)
    narrowed_ = stat.narrowed(observed, (1000 * MS, 1003 * MS))
    assert (narrowed_.after_ns // MS, narrowed_.before_ns // MS) == (6000, 6023)
    assert stat.narrowed(replace(observed, after_ns=6010 * MS), (1000 * MS, 1003 * MS)).after_ns == 6010 * MS
    # Too soon, too late, maybe not the first ones: the observed time stays.
    late = replace(observed, before_ns=11_000 * MS)
    assert stat.narrowed(late, (1000 * MS, 1003 * MS)) == late
    assert stat.narrowed(observed, (2000 * MS, 2003 * MS)) == observed
    assert stat.narrowed(observed, (0, 3 * MS)) == observed


def test_partial_bounds_samples_before_refresh():
    snapshots = [snapshot(ms, [MIB], [1]) for ms in (900, 1000, 1100)]
    part = stat.partial(Refresh(1050 * MS, 1055 * MS, (), 0, 100_000), snapshots, 20)
    assert part is not None
    assert (part.low, part.high, part.t0_ns) == (9, 12, 1000 * MS)
    assert stat.partial(Refresh(990 * MS, 1010 * MS, (), 0, 100_000), snapshots, 20) is None
    assert stat.partial(Refresh(1150 * MS, 1155 * MS, (), 0, 100_000), snapshots, 20) is None


def test_bandwidth_beyond_touched_bytes_fails():
    part = Partial(REGIONS, 10, 10, 0, 1)
    hot = [(0, 10 * MIB), (30 * MIB, 35 * MIB)]
    assert stat.share_of(REGIONS, hot).tolist() == [1, 5 / 30, 0]
    estimate = stat.estimate(part, hot, 1.0)
    assert estimate.low == estimate.high == 10 * 15 * MIB
    assert estimate.variance > 0
    accessed = 10 * 15 * MIB
    pure = stat.estimate(part, hot[:1], 1.0)
    assert pure.variance == 0

    def judged(factor, estimate=pure, accessed=10 * 10 * MIB):
        refresh = replace(results(), bandwidth=int(factor * bandwidth(accessed, 100_000)))
        return failing(stat.bandwidth([refresh] * 3, [estimate] * 3, least=0.75, others=MIB))

    assert judged(1) == []
    assert judged(0.8) == []
    assert judged(0.7)
    assert judged(1.1)
    assert judged(0.001)
    # Noise as large as the signal: a lower bound of nothing decides nothing.
    refresh = replace(results(), bandwidth=bandwidth(accessed, 100_000))
    (check,) = stat.bandwidth([refresh] * 3, [estimate] * 3, least=0.75, others=MIB)
    assert check.holds is None
    assert judged(100, estimate, accessed)

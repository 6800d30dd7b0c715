# SPDX-License-Identifier: GPL-2.0
"""Batched replicas: one replica is a system's run bit for bit; many are many independent ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_support import HEAP, MIB, STAT_ALL, Box, HotTruth, heap, under_test

from damon_tests.damon.params import DamonAttrs, DamonIntervalsGoal, DamonTarget
from damon_tests.damon.trace import snapshots
from damon_tests.ports import NotSupported
from damon_tests.reference.core.batch import Batch
from damon_tests.reference.machine.process import Process
from damon_tests.reference.rules.levels import LEVELS

ORIGIN = 1_000_000_000


def context_rng(box):
    """The random stream that the box's first context will have."""
    seeds = np.random.SeedSequence(box.system.seed).spawn(2)
    return np.random.Generator(np.random.SFC64(seeds[1]))


def as_rows(snap):
    return list(zip(*(a.tolist() for a in (snap.start, snap.end, snap.nr_accesses, snap.age)), strict=True))


@settings(max_examples=40, deadline=None)
@given(
    level=st.sampled_from(sorted(LEVELS)),
    seed=st.integers(0, 99),
    low=st.integers(3, 40),
    more=st.integers(0, 80),
    hot=st.integers(0, 64),
    operations=st.sampled_from(["vaddr", "fvaddr"]),
)
def test_one_replica_equals_the_system(level, seed, low, more, hot, operations):
    box = Box(64 * MIB, [(HEAP + 7 * MIB, HEAP + (7 + hot) * MIB)], level=level, seed=seed)
    attrs = DamonAttrs(min_nr_regions=low, max_nr_regions=low + more)
    ctx = box.ctx(attrs=attrs) if operations == "vaddr" else box.fvaddr(attrs=attrs)
    rng = context_rng(box)
    box.start(ctx)
    expected = snapshots(box.record(2))
    process = Process(box.pid, heap(64 * MIB), box.truth)
    batch = Batch(under_test(LEVELS[level].rules), ctx, [process], 1, rng)
    reported = batch.run(ORIGIN, ORIGIN + 2_000_000_000).snapshots(0)
    assert [as_rows(s) for s in reported] == [as_rows(s) for s in expected]
    assert [s.time_ns for s in reported] == [s.time_ns for s in expected]


def test_two_targets_are_kept_apart():
    box = Box(8 * MIB, [(HEAP, HEAP + MIB)])
    truth = HotTruth([(HEAP, HEAP + 4 * MIB)], [(HEAP, HEAP + 4 * MIB)])
    pid = box.system.add_process(heap(4 * MIB), truth)
    targets = (DamonTarget(box.pid, ((HEAP, HEAP + 8 * MIB),)), DamonTarget(pid, ((HEAP, HEAP + 4 * MIB),)))
    ctx = replace(box.fvaddr(), targets=targets)
    rng = context_rng(box)
    box.start(ctx)
    expected = snapshots(box.record(1))
    processes = [Process(box.pid, heap(8 * MIB), box.truth), Process(pid, heap(4 * MIB), truth)]
    recording = Batch(under_test(LEVELS["7.3"].rules), ctx, processes, 1, rng).run(ORIGIN, 2 * ORIGIN)
    for index in range(2):
        wanted = [as_rows(s) for s in expected if s.target_idx == index]
        assert [as_rows(s) for s in recording.snapshots(0, index)] == wanted


def test_replicas_are_independent_and_agree_with_systems_in_distribution():
    """Mean region count and found hot bytes: 60 replicas against 60 systems, within five standard errors."""
    hot = [(HEAP + 10 * MIB, HEAP + 14 * MIB)]

    def summary(last):
        return len(last), int(last.sizes[last.nr_accesses > 10].sum())

    single = []
    for seed in range(60):
        box = Box(64 * MIB, hot, seed=seed)
        box.start(box.fvaddr(max_nr_regions=60))
        single.append(summary(snapshots(box.record(3))[-1]))
    ctx = box.fvaddr(max_nr_regions=60)
    process = Process(box.pid, heap(64 * MIB), box.truth)
    batch = Batch(under_test(LEVELS["7.3"].rules), ctx, [process], 60, np.random.default_rng(1))
    recording = batch.run(ORIGIN, ORIGIN + 3_000_000_000)
    batched = [summary(recording.snapshots(r)[-1]) for r in range(60)]
    assert len(set(batched)) > 20
    for a, b in zip(np.array(single, float).T, np.array(batched, float).T, strict=True):
        error = np.sqrt((a.var() + b.var()) / 60)
        assert abs(a.mean() - b.mean()) < 5 * error


def test_requests_beyond_monitoring_are_refused():
    box = Box()
    process = Process(box.pid, heap(64 * MIB), box.truth)
    ctx = box.fvaddr(schemes=(STAT_ALL,), intervals_goal=DamonIntervalsGoal(400, 3, 5_000, 10_000_000))
    with pytest.raises(NotSupported, match="schemes in a batch of replicas; intervals_goal in a batch"):
        Batch(LEVELS["7.3"].rules, ctx, [process], 2, np.random.default_rng(0))

# SPDX-License-Identifier: GPL-2.0
"""Targets that fork and execute: which process is monitored, and which address space."""

from dataclasses import replace

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.judge import rule_limits
from damon_tests.judge.monitoring.aggregation_windows import windows
from damon_tests.judge.monitoring.all_invariants import all_invariants
from damon_tests.judge.monitoring.report import Report
from damon_tests.judge.verdict import Measurement
from damon_tests.ports import NSEC_PER_SEC
from damon_tests.scenario.invariants import invariants

pytestmark = pytest.mark.needs("damon_aggregated")

ATTRS = DamonAttrs(min_nr_regions=10, max_nr_regions=100)
MIB = 1 << 20


def most_accesses(run, start, end, after_ns, *, in_part=False):
    """Return, for each window begun after ``after_ns``, the largest count of regions in [start, end).

    ``in_part``: regions that overlap the range count, too.
    """
    counts = []
    for window in windows(run.recording()):
        snap = window.snapshot
        if in_part:
            inside = (snap.start < end) & (snap.end > start)
        else:
            inside = (snap.start >= start) & (snap.end <= end)
        if window.t0_ns > after_ns and inside.any():
            counts.append(float(snap.nr_accesses[inside].max()))
    return counts


@pytest.mark.accuracy
@pytest.mark.needs("ops.fvaddr")
def test_accesses_of_a_forked_child_are_not_reported(live, expect):
    """A child is busy where its parent is idle: DAMON reports no accesses of the parent there."""
    with live("two_processes", DamonCtx("fvaddr", attrs=ATTRS), cover="regions") as run:
        run.record(2.5)
    expect.add(invariants(run))  # its truth is the target's own
    start = run.target.layout["data"][0]
    after_ns = run.recording().started_ns + NSEC_PER_SEC // 2
    of_child = most_accesses(run, start + 20 * MIB, start + 22 * MIB, after_ns)
    if of_child:
        m = Measurement("accesses where the child is busy", max(of_child), "samples", tuple(of_child))
        expect.equal(m, 0, because="only the page table of the target is checked (§3.4)", kind="closed form")
    # No region need ever lie within these 2 MiB: those that reach into them count.
    snaps = [w.snapshot for w in windows(run.recording()) if w.t0_ns > after_ns]
    reached = [(s.start < start + 6 * MIB) & (s.end > start + 4 * MIB) for s in snaps]
    own = [float(s.nr_accesses[r].max(initial=0)) for s, r in zip(snaps, reached, strict=True)]
    m = Measurement("accesses where the target is busy", max(own, default=0), "samples", tuple(own))
    expect.at_least(
        m, 1, because="the target touches this memory in every sampling interval", kind="closed form"
    )


@pytest.mark.needs("ops.vaddr")
def test_forking_target_is_monitored_undisturbed(live, expect):
    """Sixteen children a second, half of which execute, change
    neither layout nor counts nor ages of the parent."""
    with live("fork_storm", DamonCtx(attrs=ATTRS)) as run:
        run.record(2.5)
        running = run.session.running()
        vmas = run.subject.vmas(run.target)
    expect.add(invariants(run))
    expect.equal(
        Measurement("kdamonds that run", float(running), "count"),
        1,
        because="a kdamond runs while its target lives (I39)",
    )
    wanted = list(rule_limits.three_ranges([v for v in vmas if v[0] < 1 << 63]))
    wrong = [
        str(rule_limits.covered(s))
        for s in run.recording().snapshots
        if list(rule_limits.covered(s)) != wanted
    ]
    expect.nothing(
        "other coverage than the parent's",
        wrong,
        because="a target is one process; its children are not followed (§3.1)",
        judged=len(run.recording().snapshots),
    )


@pytest.mark.needs("ops.vaddr")
def test_vaddr_follows_an_exec(live, expect):
    """After the target executes a program DAMON monitors the same process, in its new address space."""
    ctx = DamonCtx(attrs=replace(ATTRS, update_us=200_000))
    with live("exec", ctx) as run:
        run.record(1.5)
        # On a busy machine the program may be about to execute, or to map its memory, just now.
        followed = run.session.record(60 * NSEC_PER_SEC, until=lambda: _covers_mappings(run))
        running = run.session.running()
    expect.equal(
        Measurement("kdamonds that run", float(running), "count"),
        1,
        because="a kdamond runs while its target lives, and an exec does not end it (I39)",
    )
    m = Measurement("coverage of the new mappings", float(followed), "count")
    expect.equal(m, 1, because="the mappings of the new address space are read every update_us (I6)")
    recording = run.recording()
    expect.add(all_invariants(recording, [Report(recording, run.ctx, run.level)]))


def _covers_mappings(run):
    """Whether the last report covers what the process maps now, by the three regions' rule."""
    wanted = rule_limits.three_ranges([v for v in run.subject.vmas(run.target) if v[0] < 1 << 63])
    snaps = [s for s in run.session.recording().snapshots if s.complete]
    return bool(snaps) and rule_limits.covered(snaps[-1]) == wanted


@pytest.mark.accuracy
@pytest.mark.needs("ops.fvaddr")
def test_given_ranges_survive_an_exec(live, expect):
    """Given ranges are monitored across an exec, and DAMON reports what the new program uses there."""
    with live("exec", DamonCtx("fvaddr", attrs=ATTRS), cover="regions") as run:
        executed_ns = run.target.phases()[0].start_ns + NSEC_PER_SEC
        run.record(2.7)
        running = run.session.running()
    expect.equal(
        Measurement("kdamonds that run", float(running), "count"),
        1,
        because="a kdamond runs while its target lives, and an exec does not end it (I39)",
    )
    expect.add(invariants(run))  # memory that nobody touched is silent, before and after
    start = run.target.layout["data"][0]
    own = most_accesses(run, start + 4 * MIB, start + 6 * MIB, executed_ns + NSEC_PER_SEC // 4, in_part=True)
    m = Measurement("accesses after the exec", max(own, default=0), "samples", tuple(own))
    expect.at_least(m, 1, because="the new program touches the same addresses", kind="closed form")

# SPDX-License-Identifier: GPL-2.0
"""Targets that fork and execute: which process is watched, and which address space?"""

from dataclasses import replace

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.judge import rule_limits
from damon_tests.judge.monitoring.aggregation_windows import windows
from damon_tests.judge.monitoring.driven import invariants
from damon_tests.judge.monitoring.invariants import monitoring_invariants
from damon_tests.judge.verdict import Measurement
from damon_tests.ports import NSEC_PER_SEC

pytestmark = pytest.mark.needs("damon_aggregated")

ATTRS = DamonAttrs(min_nr_regions=10, max_nr_regions=100)
MIB = 1 << 20


def most_accesses(run, start, end, after_ns, *, in_part=False):
    """The largest count of a region that lies in [start, end), or does so in part, of windows that began
    after that."""
    found = []
    for window in windows(run.recording()):
        snap = window.snapshot
        if in_part:
            inside = (snap.start < end) & (snap.end > start)
        else:
            inside = (snap.start >= start) & (snap.end <= end)
        if window.t0_ns > after_ns and inside.any():
            found.append(float(snap.nr_accesses[inside].max()))
    return found


@pytest.mark.accuracy
@pytest.mark.needs("ops.fvaddr")
def test_a_child_at_the_same_addresses_is_not_seen(live, expect):
    """A forked process is busy where its parent is idle: the parent's memory stays silent there."""
    with live("two_processes", DamonCtx("fvaddr", attrs=ATTRS), cover="regions") as run:
        run.record(2.5)
    expect.add(invariants(run))  # its truth is the target's own
    start = run.target.layout["data"][0]
    after_ns = run.recording().started_ns + NSEC_PER_SEC // 2
    of_child = most_accesses(run, start + 20 * MIB, start + 22 * MIB, after_ns)
    if of_child:
        m = Measurement("accesses where the child is busy", max(of_child), "samples", tuple(of_child))
        expect.equal(m, 0, because="§3.4: only the target's own page table is read", kind="closed form")
    # No region need ever lie within these 2 MiB: those that reach into them count.
    snaps = [w.snapshot for w in windows(run.recording()) if w.t0_ns > after_ns]
    reached = [(s.start < start + 6 * MIB) & (s.end > start + 4 * MIB) for s in snaps]
    own = [float(s.nr_accesses[r].max(initial=0)) for s, r in zip(snaps, reached, strict=True)]
    m = Measurement("accesses where the target is busy", max(own, default=0), "samples", tuple(own))
    expect.at_least(m, 1, because="it is used in every sampling interval", kind="closed form")


@pytest.mark.needs("ops.vaddr")
def test_forks_disturb_nothing(live, expect):
    """Sixteen children a second, half of which execute: layout, counts and ages of the parent stay right."""
    with live("fork_storm", DamonCtx(attrs=ATTRS)) as run:
        run.record(2.5)
        running = run.session.running()
        vmas = run.subject.vmas(run.target)
    expect.add(invariants(run))
    expect.equal(Measurement("kdamonds that run", float(running), "count"), 1, because="the target lives")
    wanted = list(rule_limits.three_ranges([v for v in vmas if v[0] < 1 << 63]))
    wrong = [
        str(rule_limits.covered(s))
        for s in run.recording().snapshots
        if list(rule_limits.covered(s)) != wanted
    ]
    expect.nothing("other coverage than the parent's", wrong, because="§3.1: children are not followed")


@pytest.mark.needs("ops.vaddr")
def test_an_executed_program_is_followed(live, expect):
    """The target executes a program: same process, so it is watched on, in its new address space."""
    ctx = DamonCtx(attrs=replace(ATTRS, update_us=200_000))
    with live("exec", ctx) as run:
        run.record(1.5)
        # On a busy machine the program may be about to execute, or to map its memory, just now.
        followed = run.session.record(60 * NSEC_PER_SEC, until=lambda: _covers_mappings(run))
        running = run.session.running()
    expect.equal(Measurement("kdamonds that run", float(running), "count"), 1, because="the process lives")
    m = Measurement("coverage of the new mappings", float(followed), "count")
    expect.equal(m, 1, because="I6: mappings are read anew every update_us, of the new address space")
    expect.add(monitoring_invariants(run.recording(), run.ctx, run.level))


def _covers_mappings(run):
    """Whether the last report covers what the process maps now, by the three regions' rule."""
    wanted = rule_limits.three_ranges([v for v in run.subject.vmas(run.target) if v[0] < 1 << 63])
    snaps = [s for s in run.session.recording().snapshots if s.complete]
    return bool(snaps) and rule_limits.covered(snaps[-1]) == wanted


@pytest.mark.accuracy
@pytest.mark.needs("ops.fvaddr")
def test_given_ranges_outlast_an_exec(live, expect):
    """With given ranges the same addresses are watched after an exec, and what is in use there is seen."""
    with live("exec", DamonCtx("fvaddr", attrs=ATTRS), cover="regions") as run:
        executed_ns = run.target.phases()[0].start_ns + NSEC_PER_SEC
        run.record(2.7)
        running = run.session.running()
    expect.equal(Measurement("kdamonds that run", float(running), "count"), 1, because="the process lives")
    expect.add(invariants(run))  # memory that nobody touched is silent, before and after
    start = run.target.layout["data"][0]
    own = most_accesses(run, start + 4 * MIB, start + 6 * MIB, executed_ns + NSEC_PER_SEC // 4, in_part=True)
    m = Measurement("accesses after the exec", max(own, default=0), "samples", tuple(own))
    expect.at_least(m, 1, because="the new program uses the same addresses", kind="closed form")

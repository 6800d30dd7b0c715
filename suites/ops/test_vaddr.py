# SPDX-License-Identifier: GPL-2.0
"""vaddr: finds a process's memory by itself, follows its mappings, and ends with the process."""

import errno
from dataclasses import replace
from itertools import pairwise

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.damon.series import Series
from damon_tests.judge import rule_limits
from damon_tests.judge.monitoring.driven import invariants
from damon_tests.judge.monitoring.judged_windows import invariants as invariants_of
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.patterns.spec import Action, Pattern, PatternRegion, Phase
from damon_tests.ports import NSEC_PER_SEC, TreeError

pytestmark = pytest.mark.needs("ops.vaddr", "damon_aggregated")

ATTRS = DamonAttrs(min_nr_regions=10, max_nr_regions=100)
UPDATED = DamonAttrs(update_us=400_000, min_nr_regions=10, max_nr_regions=100)


def coverage_of(snapshot):
    return [list(r) for r in rule_limits.covered(snapshot)]


@pytest.mark.parametrize("pattern", ["zigzag", "idle", "small_hot_in_large_cold"])
def test_first_layout(experiment, expect, pattern):
    """From the first aggregation on exactly the mappings without their two largest gaps are watched."""
    expect.add(invariants_of(experiment(pattern, DamonCtx(attrs=ATTRS), seconds=0.6).observe()))


def test_given_ranges_hold_until_the_first_update(live, expect):
    """Ranges given for vaddr are watched until mappings are read for the first time, then those are."""
    with live("idle", DamonCtx(attrs=UPDATED), cover="regions") as run:
        run.record(2.5)
        vmas = run.subject.vmas(run.target)
    expect.add(invariants(run))
    wanted = [list(r) for r in rule_limits.three_ranges([v for v in vmas if v[0] < 1 << 63])]
    last = run.recording().snapshots[-1]
    expect.nothing(
        "coverage after the update",
        [] if coverage_of(last) == wanted else [f"{coverage_of(last)} instead of {wanted}"],
        because="§3.2: the three ranges replace what was given",
    )


def churn():
    """The lowest mapping goes at 2 s and comes back at 4 s: what is watched ends there."""
    low, data = PatternRegion("low", 32 << 20), PatternRegion("data", 16 << 20)
    gone = Action("munmap", 0, "low", 0, low.size_bytes)
    back = Action("mmap", 0, "low", 0, low.size_bytes)
    second = 1_000_000_000
    phases = (
        Phase("whole", 2 * second, ()),
        Phase("gone", 2 * second, (), (gone,)),
        Phase("back", 3600 * second, (), (back,)),
    )
    return Pattern("churn", "the lowest mapping goes and comes back", (low, data), phases)


def _windows_until_updated(attrs):
    """How many aggregations after a change may still have the old coverage.

    Mappings are read after so many samples, however long they take; the aggregation that is under way
    and the sample in which the change comes do not count.
    """
    samples = max(1, attrs.update_us // attrs.sample_us)
    return -(-(samples + 1) // attrs.samples_per_aggr)


@pytest.mark.parametrize("update_us", [200_000, 0])
def test_mapping_changes_are_followed(live, expect, update_us):
    """New mappings are watched after at most one update interval; surviving memory keeps its age."""
    seen = []
    attrs = replace(UPDATED, update_us=update_us)
    with live(churn(), DamonCtx(attrs=attrs)) as run:
        go_ns = run.target.phases()[0].start_ns
        for until_s in (1.7, 3.7, 5.7):
            run.record(until_s - (run.clock.now_ns() - go_ns) / NSEC_PER_SEC)
            vmas = run.subject.vmas(run.target)
            wanted = [list(r) for r in rule_limits.three_ranges([v for v in vmas if v[0] < 1 << 63])]
            seen.append((wanted, run.clock.now_ns()))
    phases = [p.start_ns for p in run.target.phases()]
    wrong, judged = [], 0
    for (wanted, until_ns), since_ns in zip(seen, phases, strict=False):
        if any(since_ns < other < until_ns for other in phases):
            continue  # the machine was slow: the next change came before the mappings were read
        snaps = [s for s in run.recording().snapshots if since_ns < s.time_ns < until_ns]
        for snap in snaps[_windows_until_updated(attrs) :]:
            judged += 1
            if coverage_of(snap) != wanted:
                wrong.append(f"{coverage_of(snap)} instead of {wanted}")
    expect.nothing("stale coverage", wrong, because="I6: followed within update_us")
    m = Measurement("aggregations judged", judged, "count")
    expect.add(Check("invariant", m, ">= 3", "one after each change", True if judged >= 3 else None))
    start, end = run.target.layout["data"]
    # Until new memory comes, whose age of 0 may be merged in.
    old = [s for s in run.recording().snapshots if s.time_ns < phases[2]]
    oldest = [s.age[(s.end > start) & (s.start < end)].max(initial=0) for s in old]
    lost = [f"{a} then {b}" for a, b in pairwise(oldest[6:]) if b != a + 1]
    expect.nothing(
        "ages lost by updates", lost, because="§3.2: surviving regions keep age", kind="closed form"
    )


def test_update_keeps_what_is_known(live, expect):
    """Reading unchanged mappings again and again disturbs neither regions nor ages."""
    with live(
        "hot_cold", DamonCtx(attrs=DamonAttrs(update_us=20_000, min_nr_regions=10, max_nr_regions=100))
    ) as run:
        run.record(2)
    expect.add(invariants(run))


def test_kdamond_ends_with_its_target(live, expect):
    """The only target dies: the kdamond is off by itself, at once, and can be turned off and on no less."""
    with live("hot_cold", DamonCtx(attrs=ATTRS)) as run:
        run.record(1)
        run.target.stop()
        gone_ns = run.clock.now_ns()
        ended = run.session.record(60 * NSEC_PER_SEC, until=lambda: not run.session.running())
        pid = run.client.pid(0)
        answers = []
        for word in ("off", "commit", "on"):
            try:
                run.client.command(0, word)
                answers.append("0")
            except TreeError as error:
                answers.append(error.errno_name)
    expect.equal(
        Measurement("kdamonds that ended", float(ended), "count"), 1, because="I39: no target is left"
    )
    expect.equal(Measurement("pid of an ended kdamond", pid, "pid"), -1, because="I39")
    late = [s for s in run.recording().snapshots if s.time_ns > gone_ns]
    m = Measurement("aggregations after the target's end", len(late), "count")
    expect.at_most(m, 1, because="I39: noticed at the next sample")
    level = Series.of(run.level)
    off = "0" if level.allows_off_when_stopped else errno.errorcode[errno.EPERM]
    commit = errno.errorcode[errno.ECANCELED if level.cancels_commands_when_stopped else errno.EINVAL]
    wanted = [off, commit, "EINVAL"]
    expect.nothing(
        "answers afterwards",
        [f"{a} instead of {b}" for a, b in zip(answers, wanted, strict=True) if a != b],
        because="§5.4; turning on needs a living target",
    )
    expect.add(invariants(run))


def test_a_dead_target_among_others(live, expect):
    """One of two targets dies: it is silent from then on, the other is watched as before."""
    with live(["everything_hot", "idle"], DamonCtx("fvaddr", attrs=ATTRS), cover="regions") as run:
        run.record(1)
        run.target.stop()
        gone_ns = run.clock.now_ns()
        run.record(1)
        running = run.session.running()
    expect.equal(Measurement("kdamonds that run on", float(running), "count"), 1, because="a target is left")
    expect.add(invariants(run))
    after = [s for s in run.recording().of_target(0) if s.time_ns > gone_ns][1:]
    m = Measurement(
        "accesses of a dead process", max((int(s.nr_accesses.max()) for s in after), default=0), "samples"
    )
    expect.equal(m, 0, because="§3.4: without an address space nothing is accessed", kind="closed form")


def test_no_target_at_all(live, expect):
    """Turning on without a target is accepted, and the kdamond ends at once."""
    with live("idle", DamonCtx(attrs=ATTRS), watched=0, source="none") as run:
        ended = run.session.record(60 * NSEC_PER_SEC, until=lambda: not run.session.running())
    expect.equal(
        Measurement("kdamonds that ended", float(ended), "count"), 1, because="§5.4: no target is valid"
    )

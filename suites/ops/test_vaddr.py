# SPDX-License-Identifier: GPL-2.0
"""vaddr: finds the memory of a process by itself, follows its mappings, and ends with the process."""

import errno
from dataclasses import replace
from itertools import pairwise

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.damon.series import Series
from damon_tests.judge import rule_limits
from damon_tests.judge.monitoring.aggregation_windows import settled
from damon_tests.judge.monitoring.intervals_in_samples import interval_in_samples, samples_between
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.patterns.spec import Action, Pattern, PatternRegion, Phase
from damon_tests.ports import NSEC_PER_SEC, TreeError
from damon_tests.scenario.invariants import invariants

pytestmark = pytest.mark.needs("ops.vaddr", "damon_aggregated")

ATTRS = DamonAttrs(min_nr_regions=10, max_nr_regions=100)
UPDATED = DamonAttrs(update_us=400_000, min_nr_regions=10, max_nr_regions=100)


def coverage_of(snapshot):
    return [list(r) for r in rule_limits.covered(snapshot)]


@pytest.mark.parametrize("pattern", ["zigzag", "idle", "small_hot_in_large_cold"])
def test_first_aggregation_covers_the_mappings(experiment, expect, pattern):
    """The first aggregation covers exactly the mappings without their two largest gaps."""
    expect.add(invariants(experiment(pattern, DamonCtx(attrs=ATTRS), seconds=0.6).observe()))


def test_given_ranges_hold_until_the_first_update(live, expect):
    """Ranges given for vaddr are monitored until the mappings are read
    for the first time, then the mappings are."""
    with live("idle", DamonCtx(attrs=UPDATED), cover="regions") as run:
        run.record(2.5)
        vmas = run.subject.vmas(run.target)
    expect.add(invariants(run))
    wanted = [list(r) for r in rule_limits.three_ranges([v for v in vmas if v[0] < 1 << 63])]
    last = run.recording().snapshots[-1]
    expect.nothing(
        "coverage after the update",
        [] if coverage_of(last) == wanted else [f"{coverage_of(last)} instead of {wanted}"],
        because="the three ranges of the mappings replace the given ones (§3.2)",
    )


def churn():
    """Return a pattern whose lowest mapping goes at 2 s and comes back at 4 s."""
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
    """New mappings are monitored after one update interval at most;
    memory that stays mapped keeps its age."""
    mappings = []
    attrs = replace(UPDATED, update_us=update_us)
    with live(churn(), DamonCtx(attrs=attrs)) as run:
        go_ns = run.target.phases()[0].start_ns
        for until_s in (1.7, 3.7, 5.7):
            run.record(until_s - (run.clock.now_ns() - go_ns) / NSEC_PER_SEC)
            vmas = run.subject.vmas(run.target)
            wanted = [list(r) for r in rule_limits.three_ranges([v for v in vmas if v[0] < 1 << 63])]
            mappings.append((wanted, run.clock.now_ns()))
    phases = [p.start_ns for p in run.target.phases()]
    wrong, judged = [], 0
    for (wanted, until_ns), since_ns in zip(mappings, phases, strict=False):
        if any(since_ns < other < until_ns for other in phases):
            continue  # the machine was slow: the next change came before the mappings were read
        snaps = [s for s in run.recording().snapshots if since_ns < s.time_ns < until_ns]
        for snap in snaps[_windows_until_updated(attrs) :]:
            judged += 1
            if coverage_of(snap) != wanted:
                wrong.append(f"{coverage_of(snap)} instead of {wanted}")
    expect.nothing(
        "stale coverage", wrong, because="a change of the mappings is followed within update_us (I6)"
    )
    m = Measurement("aggregations judged", judged, "count")
    expect.add(
        Check(
            "invariant",
            m,
            ">= 3",
            "an aggregation after each of three changes was judged",
            True if judged >= 3 else None,
        )
    )
    start, end = run.target.layout["data"]
    # From when no accessed bit is left that was set before monitoring began, until new memory comes, whose
    # age of 0 may be merged in.
    after_ns = run.recording().started_ns + NSEC_PER_SEC // 2
    old = [w.snapshot for w in settled(run.recording(), after_ns) if w.t1_ns < phases[2]]
    oldest = [s.age[(s.end > start) & (s.start < end)].max(initial=0) for s in old]
    lost = [f"{a} then {b}" for a, b in pairwise(oldest) if b != a + 1]
    expect.nothing(
        "ages lost by updates",
        lost,
        because="regions that stay mapped keep their age (§3.2)",
        kind="closed form",
        judged=len(oldest) - 1,
    )


def shrinking():
    """Return a pattern whose lowest mapping loses its first MiB every 25 ms, for 2.4 s."""
    mib, often_ns, pieces = 1 << 20, 25_000_000, 96
    low, data = PatternRegion("low", (pieces + 1) * mib, populate=False), PatternRegion("data", 4 * mib)
    gone = tuple(Action("munmap", i * often_ns, "low", i * mib, (i + 1) * mib) for i in range(pieces))
    phases = (Phase("shrinking", 3600 * NSEC_PER_SEC, (), gone),)
    return Pattern("shrinking", "each update of the mappings finds less memory", (low, data), phases)


def test_mappings_are_read_once_per_update_interval(live, expect):
    """Mappings are read every update_us div sample_us samples, neither earlier nor later."""
    # An aggregation of two samples shows to two samples when the coverage changed.
    attrs = DamonAttrs(5_000, 10_000, 200_000, min_nr_regions=5, max_nr_regions=20)
    with live(shrinking(), DamonCtx(attrs=attrs), source="events") as run:
        run.record(2.2, aggregations=100)
    snaps = run.recording().snapshots
    changed = [b.time_ns for a, b in pairwise(snaps) if coverage_of(a) != coverage_of(b)]
    samples, why = attrs.update_us // attrs.sample_us, "mappings are read every update_us (§2.1, I6)"
    expect.add(interval_in_samples("an update interval", changed, run.observation, samples, why, "I6"))
    early = [n for n in samples_between(changed, run.observation) if n < samples - attrs.samples_per_aggr]
    expect.nothing(
        "updates that came early",
        map(str, early),
        because=f"{why}, and never earlier",
        judged=len(changed) - 1,
    )


def test_update_of_unchanged_mappings_keeps_regions_and_ages(live, expect):
    """Reading unchanged mappings again and again changes neither regions nor ages."""
    with live(
        "hot_cold", DamonCtx(attrs=DamonAttrs(update_us=20_000, min_nr_regions=10, max_nr_regions=100))
    ) as run:
        run.record(2)
    expect.add(invariants(run))


def test_kdamond_ends_with_its_target(live, expect):
    """When its only target exits the kdamond turns off at once; it
    answers commands as documented afterwards."""
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
        Measurement("kdamonds that ended", float(ended), "count"),
        1,
        because="a kdamond ends when no target is left (I39)",
    )
    expect.equal(
        Measurement("pid of an ended kdamond", pid, "pid"), -1, because="an ended kdamond has no pid (I39)"
    )
    late = [s for s in run.recording().snapshots if s.time_ns > gone_ns]
    m = Measurement("aggregations after the target's end", len(late), "count")
    expect.at_most(m, 1, because="the kdamond notices at its next sample (I39)")
    level = Series.of(run.level)
    off = "0" if level.allows_off_when_stopped else errno.errorcode[errno.EPERM]
    commit = errno.errorcode[errno.ECANCELED if level.cancels_commands_when_stopped else errno.EINVAL]
    wanted = [off, commit, "EINVAL"]
    expect.nothing(
        "answers afterwards",
        [f"{a} instead of {b}" for a, b in zip(answers, wanted, strict=True) if a != b],
        because="off has nothing to stop, commit nobody to serve it, and on needs a living target (§5.4)",
    )
    expect.add(invariants(run))


def test_dead_target_leaves_others_monitored(live, expect):
    """When one of two targets exits, it has no accesses any more,
    and the other one is monitored as before."""
    with live(["everything_hot", "idle"], DamonCtx("fvaddr", attrs=ATTRS), cover="regions") as run:
        run.record(1)
        run.target.stop()
        gone_ns = run.clock.now_ns()
        run.record(1)
        running = run.session.running()
    expect.equal(
        Measurement("kdamonds that run on", float(running), "count"),
        1,
        because="a kdamond runs while one target lives (I39)",
    )
    expect.add(invariants(run))
    after = [w.snapshot for w in settled(run.recording(), gone_ns)]
    enough = Measurement("aggregations after its end", len(after), "count")
    why = "one began and ended after it; else nothing is tested"
    expect.add(Check("closed form", enough, ">= 1", why, True if after else None))
    m = Measurement(
        "accesses of a dead process", max((int(s.nr_accesses.max()) for s in after), default=0), "samples"
    )
    expect.equal(m, 0, because="without an address space nothing is accessed (§3.4)", kind="closed form")


def test_kdamond_without_targets_ends_at_once(live, expect):
    """on without a target succeeds, and the kdamond ends at once."""
    with live("idle", DamonCtx(attrs=ATTRS), watched=0, source="none") as run:
        ended = run.session.record(60 * NSEC_PER_SEC, until=lambda: not run.session.running())
    expect.equal(
        Measurement("kdamonds that ended", float(ended), "count"), 1, because="no target is valid (§5.4)"
    )

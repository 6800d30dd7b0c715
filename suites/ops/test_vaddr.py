# SPDX-License-Identifier: GPL-2.0
"""vaddr: finds a process's memory by itself, follows its mappings, and ends with the process."""

import errno
from itertools import pairwise

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.judge import rules
from damon_tests.judge.driven import invariants
from damon_tests.judge.observed import invariants as invariants_of
from damon_tests.judge.verdict import Measurement
from damon_tests.ports import NSEC_PER_SEC, TreeError

pytestmark = pytest.mark.needs("ops.vaddr", "damon_aggregated")

ATTRS = DamonAttrs(min_nr_regions=10, max_nr_regions=100)
UPDATED = DamonAttrs(update_us=400_000, min_nr_regions=10, max_nr_regions=100)


def coverage_of(snapshot):
    return [list(r) for r in rules.covered(snapshot)]


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
    wanted = [list(r) for r in rules.three_ranges([v for v in vmas if v[0] < 1 << 63])]
    last = run.recording().snapshots[-1]
    expect.nothing(
        "coverage after the update",
        [] if coverage_of(last) == wanted else [f"{coverage_of(last)} instead of {wanted}"],
        because="§3.2: the three ranges replace what was given",
    )


def test_mapping_changes_are_followed(live, expect):
    """New mappings are watched after at most one update interval; surviving memory keeps its age."""
    with live("idle", DamonCtx(attrs=UPDATED)) as run:
        run.record(1)
        vmas = list(run.subject.vmas(run.target))
        start, end = run.target.layout["data"]
        half = start + (end - start) // 2
        # The upper half is unmapped, and something new is mapped in the gap below.
        changed = sorted(
            [*(v for v in vmas if v != (start, end)), (start - (32 << 20), start - (16 << 20)), (start, half)]
        )
        run.subject.change_vmas(run.target, changed)
        changed_ns = run.clock.now_ns()
        run.record(2)
    wanted = [list(r) for r in rules.three_ranges(changed)]
    # One update interval, and the aggregation in which the update falls.
    late = changed_ns + 1000 * (UPDATED.update_us + 2 * UPDATED.aggr_us)
    after = [s for s in run.recording().snapshots if s.time_ns > late]
    wrong = [f"{coverage_of(s)} instead of {wanted}" for s in after if coverage_of(s) != wanted]
    expect.at_least(
        Measurement("aggregations after the change", len(after), "count"), 5, because="2 s of them"
    )
    expect.nothing("stale coverage", wrong, because="I6: followed within update_us")
    survivors = [
        s.age[(s.start >= start) & (s.end <= half)].max(initial=0) for s in run.recording().snapshots
    ]
    lost = [f"{a} then {b}" for a, b in pairwise(survivors[3:]) if b != a + 1]
    expect.nothing(
        "ages lost by the update", lost, because="§3.2: surviving regions keep age", kind="closed form"
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
    level = rules.series(run.level)
    off = "0" if level >= (7, 3) else errno.errorcode[errno.EPERM]
    commit = errno.errorcode[errno.ECANCELED if level >= (7, 0) else errno.EINVAL]
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

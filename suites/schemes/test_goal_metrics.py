# SPDX-License-Identifier: GPL-2.0
"""Goals measured by the kernel: each step of the tuner is the one that the state of memory calls for.

Several schemes of one context, each with a goal of its own, do nothing (``stat``) while memory changes.
"""

import errno
from dataclasses import replace
from functools import partial

import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, Damos, DamosQuota, DamosQuotaGoal
from damon_tests.damon.series import Series
from damon_tests.judge.schemes import goal_metrics, goals
from damon_tests.judge.schemes.goal_metrics import lru_bp, measured, memcg_bp, node_mem_bp
from damon_tests.judge.verdict import Measurement
from damon_tests.patterns import load
from damon_tests.patterns.spec import Pattern, PatternRegion, Phase
from damon_tests.ports import TreeError
from damon_tests.scenario.quota_run import (
    let_pass,
    passes_of,
    quota_events,
)

pytestmark = pytest.mark.needs("ops.fvaddr", "damon_aggregated", "damos_before_apply")
TOLD = "damos_esz"

MIB = 1 << 20
HOUR_NS = 3_600 * 10**9
ATTRS = DamonAttrs(sample_us=5_000, aggr_us=40_000, min_nr_regions=3, max_nr_regions=10)
# What the machine and its agent may take or give back between two measurements: 4 MiB of 1 GiB.
SLACK_BP = 40
LIMIT = 8 * MIB


def goal(metric, target, **where):
    return Damos("stat", ANY, quota=DamosQuota(goals=(DamosQuotaGoal(metric, target, **where),)))


def all_or_nothing(metric, target, **where):
    """The same with the temporal tuner and a hard limit."""
    quota = DamosQuota(bytes=LIMIT, goal_tuner="temporal", goals=(DamosQuotaGoal(metric, target, **where),))
    return Damos("stat", ANY, quota=quota)


def another(nid=None, mib=96):
    """A second process that comes in the middle and takes memory."""
    region = PatternRegion("data", mib * MIB, node=nid)
    return Pattern("another", "takes memory", (region,), (Phase("idle", HOUR_NS, ()),), repeat=True)


def measure(live, schemes, *, pattern="idle", comes=None, operations="fvaddr", first=None):
    """Run and measure memory; call ``first`` at the start, start the process ``comes`` in the middle."""
    infos, extra = [], quota_events(live)
    ctx = DamonCtx(operations, attrs=ATTRS, schemes=tuple(schemes))

    def sample(run):
        for _ in range(8):
            infos.append(run.subject.memory_info())
            let_pass(run, 2)

    with live(pattern, ctx, cover="regions", extra_events=extra) as run:
        if first is not None:
            first(run)
        sample(run)
        if comes is not None:
            target = run.subject.start_target(comes, 1)
            infos.append(run.subject.memory_info())
            sample(run)
            target.stop()
    return run, infos


def committed(run):
    """Commit the same request again: the goal's node and group must survive that."""
    run.commit_unchanged()


def judge(expect, run, infos, schemes, values, slack=SLACK_BP):
    """Judge each scheme's steps; ``values`` holds for each what its goal should read from a measurement."""
    for index, (scheme, value) in enumerate(zip(schemes, values, strict=True)):
        (wanted,) = scheme.quota.goals
        name = f"{wanted.target_metric} {wanted.nid or ''}{wanted.path}".strip()
        passes = passes_of(run, index)
        expect.add(goal_metrics.steps_between(name, passes, scheme.quota, measured(infos, value, slack)))


@pytest.mark.needs(TOLD, "goals.node_mem_used_bp", numa_nodes=2)
def test_node_mem_goals_measure_the_named_node(live, expect):
    """node_mem_used_bp and node_mem_free_bp are the used and free share of the goal's node at that time."""
    schemes = [
        goal("node_mem_used_bp", 10_000),
        goal("node_mem_used_bp", 10_000, nid=1),
        goal("node_mem_free_bp", 20_000),
        goal("node_mem_free_bp", 20_000, nid=1),
    ]
    run, infos = measure(live, schemes, first=committed, comes=another(nid=1))
    values = [
        lambda info: node_mem_bp(info, 0, used=True),
        lambda info: node_mem_bp(info, 1, used=True),
        lambda info: node_mem_bp(info, 0, used=False),
        lambda info: node_mem_bp(info, 1, used=False),
    ]
    judge(expect, run, infos, schemes, values, slack=2 * SLACK_BP)  # nodes are half of the memory


@pytest.mark.profile("full")
@pytest.mark.needs(TOLD, "goals.node_mem_used_bp", "quotas.goal_tuner", numa_nodes=2)
def test_temporal_tuner_switches_when_a_node_crosses_its_goal(live, expect):
    """The temporal tuner grants the whole limit while the node is on the wrong side of the goal, and
    nothing once another process has moved it to the right side; and the reverse."""

    def value(info, used):
        return node_mem_bp(info, 1, used=used)

    def halfway(run):
        info = run.subject.memory_info()
        half = 48 * MIB * 10_000 // info.node_total[1]
        used = all_or_nothing("node_mem_used_bp", value(info, True) + half, nid=1)
        free = all_or_nothing("node_mem_free_bp", value(info, False) - half, nid=1)
        run.commit(replace(run.ctx, schemes=(used, free)))

    nothing = [all_or_nothing(f"node_mem_{kind}_bp", 0, nid=1) for kind in ("used", "free")]
    run, infos = measure(live, nothing, first=halfway, comes=another(nid=1))
    values = [lambda info: value(info, True), lambda info: value(info, False)]
    judge(expect, run, infos, run.ctx.schemes, values, slack=2 * SLACK_BP)
    for index, wanted in enumerate(([LIMIT, 0], [0, LIMIT])):
        # Only until the process goes again.
        passes = [p for p in passes_of(run, index) if p.end_ns <= infos[-1].time_ns]
        traced = [event.esz for p in passes for event in p.esz]
        wrong = [] if traced[-2:] == wanted else [f"{traced}"]
        expect.nothing(
            "other sizes",
            wrong,
            because=f"the limit before the goal is met and 0 after it, here {wanted} (§4.4)",
        )


@pytest.mark.needs(TOLD, "goals.active_mem_bp")
def test_active_and_inactive_goals_measure_the_lru_lists(live, expect):
    """active_mem_bp and inactive_mem_bp are the shares of the active and inactive LRU lists at that time."""
    schemes = [goal("active_mem_bp", 20_000), goal("inactive_mem_bp", 20_000)]
    run, infos = measure(live, schemes, comes=another())
    values = [lambda info: lru_bp(info, active=True), lambda info: lru_bp(info, active=False)]
    # 2 MiB of 64 and more: pages wait in batches of each CPU before they are on a list.
    judge(expect, run, infos, schemes, values, slack=300)


@pytest.mark.needs(TOLD, "goals.node_memcg_used_bp")
def test_node_memcg_goals_measure_the_named_group(live, expect):
    """node_memcg_used_bp and _free_bp are a memory control group's share of the node, and the rest of it.

    So are those of the parent group, as the child's memory is charged to it, too. The groups get their names
    when the target runs, so their goals are committed online.
    """
    wanted = (("node_memcg_used_bp", 625), ("node_memcg_free_bp", 20_000))
    phases = (Phase("idle", HOUR_NS, ()),)
    pattern = replace(load.load("own_memcg"), memcg="outer/inner", phases=phases)

    def paths(run):
        return (run.target.memcg, run.target.memcg.rpartition("/")[0])

    def of_the_groups(run):
        schemes = tuple(goal(metric, value, path=path) for path in paths(run) for metric, value in wanted)
        run.commit(replace(run.ctx, schemes=schemes))

    without = [goal(metric, 0, path="") for metric, _ in wanted * 2]
    run, infos = measure(live, without, pattern=pattern, first=of_the_groups, comes=another())
    values = [partial(memcg_bp, path=path, used=used) for path in paths(run) for used in (True, False)]
    judge(expect, run, infos, run.ctx.schemes, values, slack=20)


@pytest.mark.needs("goals.node_memcg_used_bp")
def test_goal_of_a_missing_control_group_is_refused(live, expect):
    """on refuses a goal of a memory control group that does not
    exist, as it refuses other invalid schemes."""
    ctx = DamonCtx("fvaddr", attrs=ATTRS, schemes=(goal("node_memcg_used_bp", 625, path="/none"),))
    answer = 0
    try:
        with live("idle", ctx, cover="regions", source="none"):
            pass
    except TreeError as error:
        answer = error.errno
    expect.equal(
        Measurement("errno of on", answer, "errno"),
        errno.ENOMEM,
        because="every invalid scheme is refused with ENOMEM (§5.3)",
    )


@pytest.mark.profile("full")
@pytest.mark.needs(TOLD, "ops.paddr", "goals.node_eligible_mem_bp", numa_nodes=2)
def test_node_eligible_mem_goal_measures_matching_memory(live, expect):
    """node_eligible_mem_bp is the node's share of the memory that
    the scheme matches: a third is on node 1."""
    regions = (PatternRegion("near", 32 * MIB, node=0), PatternRegion("far", 16 * MIB, node=1))
    pattern = Pattern("near_and_far", "a third is far", regions, (Phase("idle", HOUR_NS, ()),), repeat=True)
    schemes = [
        goal("node_eligible_mem_bp", 10_000, nid=0),
        goal("node_eligible_mem_bp", 10_000, nid=1),
        goal("node_eligible_mem_bp", 5_000, nid=1),
    ]
    run, _ = measure(live, schemes, pattern=pattern, operations="paddr", first=committed)
    for index, share in enumerate((6_666, 3_333, 6_666)):
        quota = schemes[index].quota
        expect.add(goals.steps_follow(passes_of(run, index), quota, lambda _, s=share: [s]))


@pytest.mark.profile("full")
@pytest.mark.needs("goals.some_mem_psi_us", "quotas.effective_bytes", psi=1)
def test_psi_goal_without_stalls_doubles_the_quota(live, expect):
    """some_mem_psi_us is the stall time since the last window: without stalls the quota doubles. Since 7.3
    stalls before the scheme began do not count."""
    second = 10**9  # so that a stall of less than 100 ms is less than a unit of the score
    schemes = [goal("some_mem_psi_us", second)]
    temporal = live.backend().capabilities().has("quotas.goal_tuner")
    if temporal:
        quota = replace(schemes[0].quota, bytes=8 * MIB, goal_tuner="temporal")
        schemes.append(replace(schemes[0], quota=quota))
    read = []

    def watch(run):
        for _ in range(4):
            let_pass(run, 3)
            begin = run.clock.now_ns()
            value = run.client.effective_bytes(0, 0)
            read.append((begin, run.clock.now_ns(), value))

    run, infos = measure(live, schemes, first=watch)
    totals = [info.psi_some_us for info in infos]
    since_boot = goals.score(schemes[0].quota.goals, [max(totals)])
    neutral = Series.of(run.level).ignores_pressure_before_start
    expect.nothing(
        "stalls of 100 ms",
        [str(t) for t in totals if t - totals[0] >= 100_000],
        because="no process lacks memory",
    )
    initial = [10_000] if neutral else [0, since_boot]
    for index, scheme in enumerate(schemes):
        passes = passes_of(run, index)
        if index == 0:
            possible = goals.possible_sizes(
                passes, scheme.quota, lambda _: [0], Series.of(run.level), first=initial
            )
            expect.add(goals.readings_possible(goals.readings(passes, read), possible))
        if any(p.esz for p in passes):
            expect.add(goals.steps_follow(passes, scheme.quota, lambda _: [0], first=initial))

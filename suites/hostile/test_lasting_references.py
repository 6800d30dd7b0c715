# SPDX-License-Identifier: GPL-2.0
"""What thousands of uses leave behind: control groups, processes, folios, threads, directories.

All of DAMON is built into a kernel, its modules too: there are no use counts of modules to look at.
"""

from dataclasses import replace

import pytest

from damon_tests.damon.params import (
    ANY,
    DamonAttrs,
    DamonCtx,
    Damos,
    DamosFilter,
    DamosQuota,
    DamosQuotaGoal,
)
from damon_tests.judge.verdict import Measurement
from damon_tests.patterns.spec import Pattern, PatternRegion, Phase
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_SEC
from damon_tests.scenario.target_end import end_target_and_damon

pytestmark = [pytest.mark.profile("full"), pytest.mark.needs("ops.paddr", "commands.commit", "filters.memcg")]

ADMIN = "/sys/kernel/mm/damon/admin"
ATTRS = DamonAttrs(sample_us=1_000, aggr_us=10_000, min_nr_regions=10, max_nr_regions=50)
COMMITS, NAMES = 100, 20
"""Each commit looks the group up once for each scheme that names it: 2,000 times in all."""
GOAL_NEEDS = "goals.node_memcg_used_bp"
PATIENCE_NS = 20 * NSEC_PER_SEC
"""Charges of a group that ended are given back by workers of each processor, within seconds."""


def naming(group, with_goals):
    """Return schemes that each name the control group in a filter, and in a goal where there are such."""
    goals = (DamosQuotaGoal("node_memcg_used_bp", 5000, nid=0, path=group),) if with_goals else ()
    quota = DamosQuota(bytes=1 << 20, goals=goals)
    group_filter = DamosFilter("memcg", matching=True, memcg_path=group)
    first = Damos("stat", ANY, filters=(group_filter,))
    return first, *(replace(first, quota=quota) for _ in range(NAMES - 1))


def fields(text):
    """Return the numbers of a file of "name value" lines."""
    return {words[0]: int(words[1]) for words in map(str.split, text.splitlines()) if len(words) == 2}


def dying(run):
    return fields(run.subject.kernel_file("/sys/fs/cgroup/cgroup.stat"))["nr_dying_descendants"]


def isolated(run):
    values = fields(run.subject.kernel_file("/proc/vmstat"))
    return values["nr_isolated_anon"] + values["nr_isolated_file"]


def directories(run):
    return sorted(entry.path for entry in run.subject.tree.walk(ADMIN) if entry.is_dir)


def threads(run):
    """Return the number of threads of the machine, those of the kernel among them."""
    return int(run.subject.kernel_file("/proc/loadavg").split()[3].partition("/")[2])


def anonymous_kib(run):
    """Return how much anonymous memory processes have: what is left of one that nobody refers to is freed."""
    return fields(run.subject.kernel_file("/proc/meminfo").replace(":", "").replace(" kB", ""))["AnonPages"]


def settles(run, count):
    """Wait until ``count`` is 0; return what it is in the end."""
    run.clock.wait_until(lambda: count(run) == 0, run.clock.now_ns() + PATIENCE_NS, 200 * NSEC_PER_MSEC)
    return count(run)


def test_groups_named_thousands_of_times_are_freed(live, expect):
    """A control group that filters and goals of 100 commits named ends with its process and DAMON."""
    with live("own_memcg", DamonCtx("paddr", attrs=ATTRS), cover="regions", source="none") as run:
        group, has = run.target.memcg, live.backend().capabilities().has
        run.client.command(0, "off")
        before = dying(run)
        schemes = naming(group, has(GOAL_NEEDS))
        with_schemes = replace(run.session.kdamonds[0], ctx=replace(run.ctx, schemes=schemes))
        run.client.restage([with_schemes])
        run.client.command(0, "on")
        for _ in range(COMMITS):
            run.client.command(0, "commit")
        applied = run.client.stats(0, 0).nr_tried
        run.target.stop()
        run.client.command(0, "off")
        left = settles(run, lambda run: dying(run) - before)
    m = Measurement("control groups that linger", left, "groups")
    expect.at_most(m, 0, because="DAMON keeps no reference to a group when it has ended (§5.3)")
    m = Measurement("regions that the first scheme tried", applied, "regions")
    expect.at_least(m, 1, because="a scheme without quota tries all memory in each pass (§4.2)")


def test_hundreds_of_kdamonds_leave_no_threads_folios_or_directories(live, expect):
    """After hundreds of kdamonds that moved pages to other lists there are no kdamonds, no isolated folios
    and no directories more than before."""
    acting = tuple(Damos(action, ANY) for action in ("lru_prio", "lru_deprio", "pageout"))
    ctx = DamonCtx("paddr", attrs=ATTRS, schemes=acting)
    with live("idle", ctx, cover="regions", source="none") as run:
        run.client.command(0, "off")
        tree, threads_before = directories(run), threads(run)
        for _ in range(200):
            run.client.command(0, "on")
            run.client.command(0, "update_schemes_stats")
            run.client.command(0, "off")
        more = [path for path in directories(run) if path not in set(tree)]
        running = [i for i in range(run.client.nr_kdamonds()) if run.client.state(i) == "on"]
        folios = settles(run, isolated)
        more_threads = threads(run) - threads_before
    expect.nothing("directories left", more, because="results go with the kdamond that made them (§5.5)")
    expect.nothing("kdamonds left", map(str, running), because="off waits for the end (§5.4)")
    m = Measurement("threads more than before", more_threads, "threads")
    # Workers of the kernel come and go; a thread left by each kdamond would be 200.
    expect.at_most(m, 50, because="a kdamond's thread ends with it (§2.4)")
    m = Measurement("isolated folios", folios, "pages")
    expect.equal(m, 0, because="an action puts back the folios that it isolated (§4.10)")


ENDED, ENDED_MIB = 12, 16
STILL = Pattern(
    "still",
    "a process that ends soon",
    (PatternRegion("data", ENDED_MIB << 20),),
    (Phase("steady", 3600 * NSEC_PER_SEC, ()),),
)


def watch_until_end(run, number):
    """Monitor a process that ends while DAMON is on, or is the last to go."""
    target = run.subject.start_target(STILL, number)
    watched = replace(run.ctx, targets=run.covering(target, cover="process"))
    run.client.restage([replace(run.session.kdamonds[0], ctx=watched)])
    for word in ("on", "commit", "update_schemes_tried_regions"):
        run.client.command(0, word)
    end_target_and_damon(run, target, target_first=bool(number % 2))


@pytest.mark.needs("ops.vaddr", "commands.update_schemes_tried_regions")
def test_memory_of_processes_that_ended_is_freed(live, expect):
    """Of processes that ended while DAMON monitored them, or after it was turned off, no memory is left.

    Their pids and memory maps are kernel objects: ``test_long_life.py`` counts those.
    """
    ctx = DamonCtx("vaddr", attrs=replace(ATTRS, update_us=2_000), schemes=(Damos("stat", ANY),))
    with live(STILL, ctx, source="none") as run:
        run.client.command(0, "off")
        watch_until_end(run, 0)
        before = anonymous_kib(run)
        for number in range(ENDED):
            watch_until_end(run, number)
        limit = ENDED_MIB << 10 >> 1
        settles(run, lambda run: max(0, anonymous_kib(run) - before - limit))
        left = anonymous_kib(run) - before
    m = Measurement("anonymous memory more than before", float(left), "KiB")
    why = f"a process that something still refers to would keep {ENDED_MIB} MiB (§8.3)"
    expect.at_most(m, limit, because=why)

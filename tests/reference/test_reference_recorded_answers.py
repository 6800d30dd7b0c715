# SPDX-License-Identifier: GPL-2.0
"""Each level answers actions as a real kernel of its series did (specification, appendix A)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest
from reference_support import HEAP, MIB, STAT_ALL, Box

from damon_tests.damon.params import (
    DamonCtx,
    DamonIntervalsGoal,
    DamonTarget,
    DamosFilter,
    DamosQuota,
    DamosQuotaGoal,
    DamosWatermarks,
    Kdamond,
)
from damon_tests.ports import TreeError, page_size
from damon_tests.reference.rules.levels import LEVELS

NAMES = ("6.12", "6.16", "6.17", "6.18", "6.19", "7.0", "7.1", "7.2", "7.3")
RAM = ((MIB, 64 * MIB),)
PADDR = DamonCtx(operations="paddr", targets=(DamonTarget(0, RAM),), schemes=(STAT_ALL,))

Act = Callable[[Box], None]
ACTIONS: dict[str, tuple[Act, str]] = {}


def row(expected: str, name: str = ""):
    """Register an action and what each kernel answered: one word for all, or one per level.

    ``-`` in a column: not asked of that kernel, or it lacks the file.
    """

    def register(act: Act) -> Act:
        ACTIONS[name or act.__name__] = (act, expected)
        return act

    return register


def on(ctx: DamonCtx) -> Act:
    return lambda box: box.start(ctx)


def vaddr(**fields) -> Act:
    return lambda box: box.start(box.ctx(**fields))


def write(name: str, value: str) -> Act:
    """Write one file of a context that has a target and a scheme."""

    def act(box: Box) -> None:
        box.stage(PADDR)
        box.tree.write(box.ctx_path(name), value)

    return act


def while_on(command: str, ctx: DamonCtx = PADDR) -> Act:
    def act(box: Box) -> None:
        box.start(ctx)
        box.run(0.3)
        box.command(command)

    return act


def after_off(command: str) -> Act:
    def act(box: Box) -> None:
        box.start(PADDR)
        box.command("off")
        box.command(command)

    return act


def never_started(command: str, ctx: DamonCtx = PADDR) -> Act:
    def act(box: Box) -> None:
        box.stage(ctx)
        box.command(command)

    return act


def filtered(**fields) -> Act:
    return on(replace(PADDR, schemes=(replace(STAT_ALL, filters=(DamosFilter(**fields),)),)))


ALL_BUT_7_3 = "EPERM " * 8 + "ok"
STOPPED = "EINVAL " * 5 + "ECANCELED " * 4
WRITE_NR = "kdamonds/nr_kdamonds"

row("ok", "on")(on(PADDR))
row("EBUSY", "on again")(while_on("on"))
row("EINVAL", "unknown command")(while_on("foo"))
row("EINVAL", "command with a blank")(while_on(" on"))
row("EINVAL", "command with two newlines")(while_on("off\n\n"))
row("ok " + "ECANCELED " * 8, "tried regions without schemes")(
    while_on("update_schemes_tried_regions", replace(PADDR, schemes=()))
)
row("ok", "stats without schemes")(while_on("update_schemes_stats", replace(PADDR, schemes=())))
row("EINVAL " + "ok " * 8, "tuned intervals without goal")(while_on("update_tuned_intervals"))
row("ok", "off with a newline")(while_on("off\n"))
row(ALL_BUT_7_3, "off again")(after_off("off"))
row(STOPPED, "commit after off")(after_off("commit"))
row(STOPPED, "stats after off")(after_off("update_schemes_stats"))
row(STOPPED, "tried regions after off")(after_off("update_schemes_tried_regions"))
row("EINVAL " + "ok " * 8, "clear after off")(after_off("clear_schemes_tried_regions"))
row(STOPPED, "effective quotas after off")(after_off("update_schemes_effective_quotas"))
row("EINVAL", "off, never started")(never_started("off"))
row("EINVAL", "commit, never started")(never_started("commit"))
row("EINVAL " + "ok " * 8, "clear, never started")(never_started("clear_schemes_tried_regions"))
row("EINVAL", "tried regions, never started")(never_started("update_schemes_tried_regions"))
row("EINVAL", "quota goals, never started")(never_started("commit_schemes_quota_goals"))
row("EINVAL", "two contexts")(
    lambda box: (box.stage(PADDR), box.tree.write(box.path("contexts/nr_contexts"), "2"))
)
row("EINVAL", "minus one context")(
    lambda box: (box.stage(PADDR), box.tree.write(box.path("contexts/nr_contexts"), "-1"))
)
row("ENOMEM", "two million kdamonds")(
    lambda box: box.tree.write("/sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds", "2000000")
)
row("EINVAL", "pid too large")(write("targets/0/pid_target", "99999999999"))
row("ok", "negative pid")(write("targets/0/pid_target", "-5"))
row("EINVAL", "unknown operations")(write("operations", "foo"))
row("EINVAL", "vaddr pid 0")(vaddr(targets=(DamonTarget(0),)))
row("EINVAL", "vaddr unknown pid")(vaddr(targets=(DamonTarget(999),)))
row("ok", "vaddr known pid")(vaddr())
row("- - - - ok ok ok ok EINVAL", "obsolete target at start")(
    lambda box: box.start(box.ctx(targets=(DamonTarget(box.pid, (), True),)))
)
row("ok", "vaddr without targets")(vaddr(targets=()))
row("EINVAL", "paddr with two targets")(
    on(replace(PADDR, targets=(DamonTarget(0, RAM), DamonTarget(0, RAM))))
)
row("EINVAL", "min regions 2")(vaddr(min_nr_regions=2))
row("EINVAL", "min above max")(vaddr(min_nr_regions=20, max_nr_regions=10))
row("EINVAL", "sample above aggr")(vaddr(sample_us=200_000))
row("- " + "EINVAL " * 8, "aggrs 1 with max_sample 0")(vaddr(intervals_goal=DamonIntervalsGoal(aggrs=1)))
row("- " + "EINVAL " * 8, "sample below min_sample")(
    vaddr(intervals_goal=DamonIntervalsGoal(400, 1, 6_000, 10_000))
)
row("EINVAL " * 8 + "ok", "region 4095-1")(lambda box: box.start(box.fvaddr(ranges=[(4095, 1)])))
row("EINVAL", "region 8192-4096")(lambda box: box.start(box.fvaddr(ranges=[(2 * page_size(), page_size())])))
row("EINVAL", "overlapping regions")(
    lambda box: box.start(box.fvaddr(ranges=[(0, 2 * page_size()), (page_size(), 3 * page_size())]))
)
row("- - - ok ok EINVAL EINVAL EINVAL EINVAL", "addr_unit 3")(
    on(replace(PADDR, addr_unit=3, targets=(DamonTarget(0, ((0, 1365 * 1000),)),)))
)
row("- - - ok ok ok ok ok ok", "addr_unit 5000")(on(replace(PADDR, addr_unit=5000)))
row("- - - " + "EINVAL " * 6, "addr_unit 0")(write("addr_unit", "0"))
row("ENOMEM", "address filter ends before start")(
    filtered(type="addr", addr_start=2 * page_size(), addr_end=page_size())
)
row("ENOMEM", "memcg filter without path")(filtered(type="memcg"))
row("ENOMEM", "memcg filter with unknown path")(filtered(type="memcg", memcg_path="/nothing"))
row("- " + "ENOMEM " * 8, "huge page filter with min above max")(filtered(type="hugepage_size", min=2, max=1))
row("EINVAL " * 7 + "ok ok", "metric node_eligible_mem_bp")(
    lambda box: (
        box.stage(PADDR),
        box.tree.write(box.ctx_path("schemes/0/quotas/goals/nr_goals"), "1"),
        box.tree.write(box.ctx_path("schemes/0/quotas/goals/0/target_metric"), "node_eligible_mem_bp"),
    )
)
row("- - - - - - - ok EINVAL", "vaddr with that goal")(
    lambda box: box.start(
        box.ctx(
            schemes=(replace(STAT_ALL, quota=DamosQuota(goals=(DamosQuotaGoal("node_eligible_mem_bp", 1),))),)
        )
    )
)
row("EINVAL", "quota bytes too large")(write("schemes/0/quotas/bytes", "99999999999999999999"))
row("EINVAL", "quota ms abc")(write("schemes/0/quotas/ms", "abc"))
row("- - - - - - - EINVAL EINVAL", "five probes")(write("monitoring_attrs/probes/nr_probes", "5"))
row("ok", "tried regions")(while_on("update_schemes_tried_regions"))


@row("EBUSY", "nr_kdamonds while on")
def nr_kdamonds_while_on(box: Box) -> None:
    box.start(PADDR)
    box.tree.write("/sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds", "2")


# 6.12 was asked when its kdamond had already ended for another reason.
@row("- " + "ok " * 8, "commit without targets, paddr")
def commit_without_targets(box: Box) -> None:
    box.start(PADDR)
    box.tree.write(box.ctx_path("targets/nr_targets"), "0")
    box.command("commit")


@row("- - - - - - - ECANCELED ECANCELED", "tried regions while paused")
def tried_while_paused(box: Box) -> None:
    box.start(PADDR)
    box.client.restage([Kdamond(replace(PADDR, pause=True))])
    box.command("commit")
    box.command("update_schemes_tried_regions")


@row("ok " + "ECANCELED " * 8, "tried regions while watermark-inactive")
def tried_while_inactive(box: Box) -> None:
    marks = DamosWatermarks("free_mem_rate", 100_000, 3, 2, 1)
    box.start(replace(PADDR, schemes=(replace(STAT_ALL, watermarks=marks),)))
    box.run(0.5)
    box.command("update_schemes_tried_regions")


@row("EPERM " * 8 + "ok", "off after the process died")
def off_after_death(box: Box) -> None:
    box.start(box.ctx())
    box.system.remove_process(box.pid)
    box.run(0.1)
    box.command("off")


@row("EINVAL " + "- " * 8, "off after a start was refused")
def off_after_refused_start(box: Box) -> None:
    box.start(box.ctx())
    box.command("off")
    box.stage(replace(PADDR, attrs=replace(PADDR.attrs, min_nr_regions=2)))
    with suppress(TreeError):
        box.command("on")
    box.command("off")


MODULE = "/sys/module/damon_{}/parameters/{}"


def module(name: str, *writes: tuple[str, str]) -> Act:
    def act(box: Box) -> None:
        for parameter, value in writes:
            box.tree.write(MODULE.format(name, parameter), value)

    return act


row("- - " + "EBUSY " * 7, "on while damon_stat is enabled")(
    lambda box: (box.tree.write(MODULE.format("stat", "enabled"), "Y"), box.start(PADDR))
)
row("EBUSY", "damon_lru_sort while a context runs")(
    lambda box: (box.start(PADDR), box.tree.write(MODULE.format("lru_sort", "enabled"), "Y"))
)
row("- " + "ok " * 6 + "EINVAL EINVAL", "commit_inputs before the first enable")(
    module("reclaim", ("commit_inputs", "Y"))
)
row("ok", "reclaim enabled")(module("reclaim", ("enabled", "Y")))
row("- " + "ok " * 6 + "EINVAL EINVAL", "commit_inputs with aggr_interval 0")(
    module("reclaim", ("enabled", "Y"), ("aggr_interval", "0"), ("commit_inputs", "Y"))
)
row("- " + "ok " * 6 + "ECANCELED ECANCELED", "commit_inputs when stopped")(
    module("reclaim", ("enabled", "Y"), ("enabled", "N"), ("commit_inputs", "Y"))
)
row("EBUSY", "command while a tried-regions request waits")(
    lambda box: (
        box.start(replace(PADDR, schemes=(replace(STAT_ALL, apply_interval_us=6_000_000),))),
        box.tree.begin_write(box.path("state"), "update_schemes_tried_regions"),
        box.command("update_schemes_stats"),
    )
)


def columns(expected: str) -> list[str]:
    words = expected.split()
    return words * len(NAMES) if len(words) == 1 else words


CASES = [
    pytest.param(level, act, wanted, id=f"{level}-{name}")
    for name, (act, expected) in ACTIONS.items()
    for level, wanted in zip(NAMES, columns(expected), strict=True)
    if wanted != "-"
]


@pytest.mark.parametrize(("level", "act", "wanted"), CASES)
def test_a_level_answers_as_the_kernel_did(level, act, wanted):
    try:
        act(Box(64 * MIB, [(HEAP, HEAP + MIB)], level=level))
        answer = "ok"
    except TreeError as error:
        answer = error.errno_name
    assert answer == wanted


def test_answers_of_every_level_are_recorded():
    assert set(NAMES) == set(LEVELS)

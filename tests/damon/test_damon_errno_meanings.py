# SPDX-License-Identifier: GPL-2.0
"""Errnos in words, a case for each error that a user meets."""

from __future__ import annotations

import errno

import pytest

from damon_tests.damon.errno_meanings import Situation, likely_cause
from damon_tests.damon.params import (
    DamonAttrs,
    DamonCtx,
    DamonIntervalsGoal,
    DamonProbe,
    DamonProbeFilter,
    DamonTarget,
    Damos,
    DamosFilter,
    DamosQuota,
    DamosQuotaGoal,
    DamosWatermarks,
    Kdamond,
)
from damon_tests.damon.users import ADMIN, Usage, User
from damon_tests.ports import TreeError

STATE = f"{ADMIN}/kdamonds/0/state"
STAT_ON = Usage(1, (User("module", "damon_stat", 53),))


def cause(
    path: str, error: int, value: str | None = None, ctx: DamonCtx | None = None, who: Usage | None = None
) -> str:
    operation = "read" if value is None else "write"
    requested = () if ctx is None else (Kdamond(ctx),)
    return likely_cause(
        TreeError(operation, path, error, value), Situation(requested, who or Usage(None, ()))
    )


def paddr(**fields: object) -> DamonCtx:
    return DamonCtx(operations="paddr", **fields)  # type: ignore[arg-type]


def vaddr(*targets: DamonTarget, **fields: object) -> DamonCtx:
    return DamonCtx(targets=targets or (DamonTarget(7),), **fields)  # type: ignore[arg-type]


def goal_on(metric: str) -> Damos:
    return Damos(quota=DamosQuota(goals=(DamosQuotaGoal(metric, 1),)))


@pytest.mark.parametrize(
    ("ctx", "text"),
    [
        (paddr(attrs=DamonAttrs(min_nr_regions=2)), "min_nr_regions 2 is below 3"),
        (paddr(attrs=DamonAttrs(min_nr_regions=20, max_nr_regions=10)), "above max_nr_regions 10"),
        (paddr(attrs=DamonAttrs(sample_us=200_000)), "sample_us 200000 is above aggr_us 100000"),
        (
            paddr(attrs=DamonAttrs(intervals_goal=DamonIntervalsGoal(1, 1, 6000, 7000))),
            "outside the intervals goal's min_sample_us 6000",
        ),
        (paddr(targets=(DamonTarget(), DamonTarget())), "paddr takes one target, not 2"),
        (vaddr(DamonTarget(0)), "pid_target 0 is no process"),
        (vaddr(DamonTarget(-5)), "pid_target -5 is no process"),
        (vaddr(DamonTarget(7, ((8192, 4096),))), "ends at 4096, not after its start 8192"),
        (vaddr(DamonTarget(7, ((0, 8192), (4096, 12288)))), "overlap or are not ascending at 4096"),
        (vaddr(DamonTarget(7, obsolete_target=True)), "obsolete_target"),
        (paddr(addr_unit=3), "smallest region 1365 units, no power of two"),
        (vaddr(schemes=(goal_on("node_eligible_mem_bp"),)), "needs paddr, not vaddr"),
        (
            paddr(attrs=DamonAttrs(sample_us=100, probes=(DamonProbe(1),))),
            "255 samples per aggregation, not 1000",
        ),
        (paddr(attrs=DamonAttrs(probes=(DamonProbe(1 << 31),))), "exceed 32 bits"),
        (
            paddr(attrs=DamonAttrs(probes=(DamonProbe(1, (DamonProbeFilter("memcg", path="/x"),)),))),
            "probe filter's path '/x'",
        ),
        (vaddr(DamonTarget(77)), r"may have ended (pid 77)"),
        (paddr(), "avail_operations may lack paddr"),
        (None, "refuses the staged values"),
    ],
)
@pytest.mark.parametrize("word", ["on", "commit"])
def test_a_refused_request_names_what_is_wrong_with_it(ctx: DamonCtx | None, text: str, word: str) -> None:
    assert text in cause(STATE, errno.EINVAL, word, ctx)


def test_every_reason_of_a_refusal_is_named() -> None:
    text = cause(STATE, errno.EINVAL, "on", paddr(attrs=DamonAttrs(200_000, min_nr_regions=1)))
    assert "min_nr_regions 1" in text
    assert "sample_us 200000" in text


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (
            DamosFilter("memcg", memcg_path="/gone"),
            "scheme 1: no memory cgroup has the filter's memcg_path '/gone'",
        ),
        (DamosFilter("addr", addr_start=9, addr_end=8), "ends at 8, before its start 9"),
        (DamosFilter("hugepage_size", min=9, max=8), "min 9 is above its max 8"),
    ],
)
@pytest.mark.parametrize("where", ["core_filters", "ops_filters", "filters"])
def test_enomem_names_the_bad_filter_of_a_scheme(bad: DamosFilter, text: str, where: str) -> None:
    ctx = paddr(schemes=(Damos(), Damos(**{where: (bad,)})))  # type: ignore[arg-type]
    assert text in cause(STATE, errno.ENOMEM, "on", ctx)


def test_enomem_without_a_bad_filter_means_short_memory() -> None:
    assert "memory is short" in cause(STATE, errno.ENOMEM, "on", paddr(schemes=(Damos(),)))


@pytest.mark.parametrize(
    ("path", "error", "value", "who", "text"),
    [
        (STATE, errno.EBUSY, "on", STAT_ON, "in use by module damon_stat (pid 53)"),
        (STATE, errno.EBUSY, "on", Usage(1, (), locked=True), "another command is being executed"),
        (
            f"{ADMIN}/kdamonds/nr_kdamonds",
            errno.EBUSY,
            "0",
            Usage(1, (User("kdamond", "kdamonds/0", 9),)),
            "kdamonds/0",
        ),
        (STATE, errno.EBUSY, None, None, "holds DAMON's lock"),
        (f"{ADMIN}/kdamonds/0/pid", errno.EBUSY, None, None, "holds DAMON's lock"),
        (STATE, errno.EINVAL, "update_schemes_stats", None, "never ran, or has stopped"),
        (STATE, errno.EINVAL, "off", None, "never ran"),
        (STATE, errno.EINVAL, "foo", None, "no such command"),
        (STATE, errno.EPERM, "off", None, "already stopped"),
        (f"{ADMIN}/kdamonds/0/contexts/nr_contexts", errno.EINVAL, "2", None, "no or one context"),
        ("/x/probes/nr_probes", errno.EINVAL, "5", None, "at most 4"),
        ("/x/nr_targets", errno.EINVAL, "-1", None, "not negative"),
        ("/x/core_filters/0/type", errno.EINVAL, "anon", None, "addr or target only"),
        ("/x/ops_filters/0/type", errno.EINVAL, "addr", None, "any type but addr and target"),
        ("/x/schemes/0/action", errno.EINVAL, "foo", None, "no word this kernel knows"),
        ("/x/addr_unit", errno.EINVAL, "0", None, "above 0"),
        ("/x/pause", errno.EINVAL, "2", None, "Y or N"),
        ("/x/quotas/bytes", errno.EINVAL, "9" * 20, None, "out of range"),
        ("/x/intervals/sample_us", errno.EINVAL, "-1", None, "negative"),
        ("/x/intervals/sample_us", errno.ERANGE, "9" * 20, None, "does not fit"),
        ("/x/nr_kdamonds", errno.ENOMEM, "2000000", None, "now reads 0"),
        ("/x/schemes/0/stats/nr_tried", errno.EACCES, "1", None, "read-only"),
        ("/x/kdamonds/0/pid", errno.EACCES, "1", None, "read-only"),
        ("/x/kdamonds/0/pid", errno.EACCES, None, None, "root only"),
        ("/x/refresh_ms", errno.ENOENT, "1", None, "no such file, or the index"),
        (ADMIN, errno.ENOENT, None, None, "CONFIG_DAMON_SYSFS"),
        ("/x/age/min", errno.ENODEV, None, None, "removed meanwhile"),
    ],
)
def test_each_errno_has_a_cause_in_words(
    path: str, error: int, value: str | None, who: Usage | None, text: str
) -> None:
    assert text in cause(path, error, value, who=who)


@pytest.mark.parametrize(
    ("ctx", "text"),
    [
        (paddr(), "no scheme"),
        (paddr(pause=True, schemes=(Damos(),)), "paused"),
        (
            paddr(schemes=(Damos(watermarks=DamosWatermarks("free_mem_rate")),)),
            "deactivated by their watermarks",
        ),
        (paddr(schemes=(Damos(),)), "has stopped"),
    ],
)
def test_cancelled_tried_regions_name_the_cause(ctx: DamonCtx, text: str) -> None:
    assert text in cause(STATE, errno.ECANCELED, "update_schemes_tried_regions", ctx)


def test_cancelled_commit_means_stopped() -> None:
    assert "has stopped" in cause(STATE, errno.ECANCELED, "commit", paddr())


def test_unknown_errors_get_no_invented_cause() -> None:
    assert cause("/x/age/min", errno.EIO) == ""

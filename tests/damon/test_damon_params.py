# SPDX-License-Identifier: GPL-2.0
"""Mistakes in requests are errors at their line, and the error names the known values."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from damon_tests.damon.params import (
    DamonAttrs,
    DamonCtx,
    DamonProbe,
    DamonProbeFilter,
    Damos,
    DamosFilter,
    DamosQuota,
    DamosQuotaGoal,
    DamosWatermarks,
    Kdamond,
)
from damon_tests.ports import UsageError


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: DamonCtx("fvadr"),
            "(operations='fvadr'): the known values are vaddr, fvaddr, paddr",
        ),
        (lambda: Damos("reclaim"), "Damos(action='reclaim'): the known values are willneed, cold, pageout"),
        (lambda: DamosFilter("address"), "DamosFilter(type='address'): the known values are anon, active"),
        (lambda: DamonProbeFilter("addr"), "the known values are anon, memcg"),
        (
            lambda: DamosQuotaGoal("psi"),
            "(target_metric='psi'): the known values are user_input",
        ),
        (lambda: DamosQuota(goal_tuner="pid"), "the known values are consist, temporal"),
        (lambda: DamosWatermarks("free"), "the known values are none, free_mem_rate"),
        (lambda: DamonCtx(schemes=Damos()), "DamonCtx(schemes=...) takes a tuple of Damos, not Damos"),
        (lambda: Damos(filters=(DamosQuota(),)), "Damos(filters=...) takes DamosFilter, not DamosQuota("),
        (lambda: DamonCtx(attrs=5_000), "DamonCtx(attrs=...) takes a DamonAttrs, not 5000"),
        (lambda: Kdamond(DamonAttrs()), "Kdamond(ctx=...) takes a DamonCtx, not DamonAttrs("),
    ],
)
def test_invalid_values_are_refused_with_the_known_ones(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        make()
    assert message in str(refused.value)


def test_lists_become_tuples() -> None:
    assert DamonCtx(schemes=[Damos()]).schemes == (Damos(),)  # type: ignore[arg-type]
    assert DamonAttrs(probes=[DamonProbe()]).probes == (DamonProbe(),)  # type: ignore[arg-type]

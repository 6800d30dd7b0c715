# SPDX-License-Identifier: GPL-2.0
"""Schemes applied for some passes: they act on their span only, and counters match the trace."""

from __future__ import annotations

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx, Kdamond
from damon_tests.damon.trace import BeforeApplyEvent
from damon_tests.experiment.live import live
from damon_tests.experiment.reference_backend import ReferenceBackend
from damon_tests.kernel.guest.topology import Topology
from damon_tests.patterns.load import load
from damon_tests.scenario import acting

MIB = 1 << 20


def event(start: int, end: int) -> BeforeApplyEvent:
    return BeforeApplyEvent(0, 0, 0, 0, 1, start, end, 0, 0)


def test_fewest_counts_tries_of_the_least_tried_part() -> None:
    tried = [event(0, 10), event(10, 30), event(5, 15)]
    assert acting.fewest(tried, [(0, 30)]) == 1
    assert acting.fewest(tried, [(5, 15)]) == 2
    assert acting.fewest(tried, [(0, 31)]) == 0
    assert acting.fewest(tried, [(5, 10), (40, 50)]) == 0
    assert acting.fewest([], [(0, 1)]) == 0


@pytest.mark.parametrize("level", ["6.12", "6.18", "7.3"])
def test_scheme_acts_on_exactly_its_span(level: str) -> None:
    ctx = DamonCtx(attrs=DamonAttrs(max_nr_regions=100))
    with live(
        ReferenceBackend(level),
        [load("two_idle_regions")] * 2,
        [Kdamond(ctx)],
        1,
        cover="regions",
        watched=1,
        extra_events=[acting.BEFORE_APPLY],
        topology=Topology(swap_zram_mib=64),
    ) as run:
        part = acting.middle(run.target.layout["data"])
        done = acting.act(run, acting.scheme("pageout", part), acting.scheme("stat"), over=[part], passes=3)
        assert run.ctx.schemes == ()
    assert done.in_time
    pages, after = done.pair("data")
    assert not pages.swapped.any()
    assert after.swapped.sum() * 4096 == part[1] - part[0]
    assert all(part[0] <= e.start and e.end <= part[1] for e in done.counted[0])
    assert [len(c) for c in done.counted] == [s.nr_tried for s in done.stats]
    assert done.sz_counted() >= 3 * (part[1] - part[0])
    assert done.sz_counted(0) <= done.stats[0].sz_tried
    assert len(done.pairs()) == 4
    assert len(done.others("data")) == 3


def test_waiting_target_is_monitored_instead() -> None:
    ctx = DamonCtx(attrs=DamonAttrs(max_nr_regions=100))
    with live(
        ReferenceBackend("7.3"),
        [load("two_idle_regions")],
        [Kdamond(ctx)],
        1,
        cover="regions",
        extra_events=[acting.BEFORE_APPLY],
        topology=Topology(swap_zram_mib=64),
    ) as run:
        with acting.waiting(run, "half_used") as target:
            whole = target.layout["data"]
            done = acting.act(run, acting.scheme("pageout"), over=[whole], more=[target])
            assert set(done.pairs()) == {(0, "data"), (0, "other"), (1, "data")}
            assert run.subject.pages(target, *whole).swapped.all()
            target.go()
            run.record(0.1)
            pages = run.subject.pages(target, *whole)
            assert pages.present.sum() * 4096 == 8 * MIB
        assert not done.after[0, "data"].swapped.any()
        assert not target.alive  # type: ignore[attr-defined]

# SPDX-License-Identifier: GPL-2.0
"""What modules' schemes were tried on, judged: each check can fail."""

from __future__ import annotations

import numpy as np

from damon_tests.damon.module_params import DamonLruSort, DamonReclaim, DamonStat
from damon_tests.damon.records import DamosStats
from damon_tests.damon.trace import BeforeApplyEvent
from damon_tests.judge.modules import schemes as module_schemes
from damon_tests.ports import Event

MS = 1_000_000
MIB = 1 << 20
RAM = ((0x1000, 0x9F000), (0x100000, 1 << 30))


def apply(time_ms, size=4096, start=0, nr=0, age=10, scheme=0):
    return BeforeApplyEvent(time_ms * MS, 0, scheme, 0, 10, start, start + size, nr, age)


def raw(*steps):
    """Events: a number is an aggregation at that time, an application itself."""
    events = []
    for step in steps:
        if isinstance(step, int):
            events.append(Event(step * MS, "damon_aggregated", "target_id=0 nr_regions=1 0-4096: 0 0", 7))
        else:
            e = step
            text = f"ctx_idx=0 scheme_idx={e.scheme_idx} target_idx=0 nr_regions={e.nr_regions} "
            text += f"{e.start}-{e.end}: {e.nr_accesses} {e.age}"
            events.append(Event(e.time_ns, "damos_before_apply", text, 7))
    return events


def failing(checks):
    return [c.measurement.name for c in checks if not c.holds]


def test_derived_request_has_the_modules_schemes():
    reclaim = module_schemes.derived(DamonReclaim(), RAM, "7.3")
    assert reclaim.schemes[0].action == "pageout"
    assert reclaim.targets[0].regions == ((0x1000, 1 << 30),)
    assert module_schemes.derived(DamonReclaim(), RAM, "7.1").targets[0].regions == ((0x100000, 1 << 30),)
    assert len(module_schemes.derived(DamonLruSort(), RAM, "7.3").schemes) == 2
    assert module_schemes.derived(DamonStat(), RAM, "7.3").schemes == ()


def test_passes_are_cut_at_aggregations():
    events = raw(apply(1), apply(2, scheme=1), 3, 3, apply(4), 5, 6, apply(7), apply(8))
    assert [
        [e.time_ns // MS for e in events_of_pass] for events_of_pass in module_schemes.passes(events)
    ] == [[1], [4], [7, 8]]
    assert [
        [e.time_ns // MS for e in events_of_pass] for events_of_pass in module_schemes.passes(events, 1)
    ] == [[2]]
    assert module_schemes.passes(raw(1, 2)) == []


def test_region_beyond_pattern_or_monitored_range_fails():
    scheme = module_schemes.derived(DamonReclaim(min_age=1_000_000), RAM, "7.3").schemes[0]
    assert failing(module_schemes.as_asked("x", [apply(1)], scheme, (0, 8192))) == []
    wrong = {
        "sizes": apply(1, size=2048),
        "nr_accesses": apply(1, nr=1),
        "ages": apply(1, age=9),
        "regions": apply(1, start=8192),
    }
    for word, event in wrong.items():
        (name,) = failing(module_schemes.as_asked("x", [apply(1), event], scheme, (0, 8192)))
        assert word in name


def test_scheme_that_tried_nothing_fails():
    assert module_schemes.something_tried("x", [apply(1)]).holds
    assert module_schemes.something_tried("x", []).holds is False


def test_try_before_age_min_can_be_reached_fails():
    ctx = module_schemes.derived(DamonReclaim(min_age=1_000_000), RAM, "7.3")
    assert module_schemes.not_before("x", [], 0, ctx) == []
    assert failing(module_schemes.not_before("x", [apply(1_100)], 100 * MS, ctx)) == []
    assert failing(module_schemes.not_before("x", [apply(1_099)], 100 * MS, ctx))


def test_counters_must_be_those_of_a_traced_try():
    applied = [[apply(10, 4096), apply(11, 8192)], [apply(110, 4096)], [apply(210, 4096)]]

    def judged(nr, size, at_ms=120, nr_applied=0, sz_applied=0):
        stats = DamosStats(nr, size, nr_applied, sz_applied, 0)
        return failing(module_schemes.counted("x", stats, (at_ms * MS, at_ms * MS), applied))

    assert judged(2, 12288) == []  # the second pass may not be counted yet
    assert judged(3, 16384) == []
    assert judged(1, 4096)  # the first pass must be
    assert judged(3, 12288)
    assert judged(4, 20480)
    assert judged(4, 20480, at_ms=220) == []
    assert judged(0, 0, at_ms=1) == []
    assert judged(3, 16384, nr_applied=4, sz_applied=1)
    assert judged(3, 16384, nr_applied=1)


def test_pass_or_stretch_beyond_quota_fails():
    def judged(*sizes, every_ms=500, quota=4 * MIB):
        passes = [[apply(i * every_ms, size)] for i, size in enumerate(sizes)]
        return failing(module_schemes.within_quota("x", passes, quota, 500))

    assert judged(*[4 * MIB] * 10) == []
    assert any("in a pass" in name for name in judged(5 * MIB))
    assert judged(*[4 * MIB] * 10, every_ms=100)
    assert judged(*[2 * MIB] * 10, every_ms=250) == []
    assert judged() == []


def test_tried_shares_are_taken_when_half_of_first_set_was_tried():
    first, other = np.arange(10, 20), np.arange(30, 40)
    in_turn = [apply(1, 10 * 4096, 10 * 4096), apply(2, 10 * 4096, 30 * 4096)]
    assert module_schemes.tried_when_half(in_turn, first, other) == module_schemes.Halfway(1.0, 0.0, 1 * MS)
    assert module_schemes.tried_when_half(in_turn[::-1], first, other) == module_schemes.Halfway(
        1.0, 1.0, 1 * MS
    )
    part = [apply(3, 4 * 4096, 8 * 4096)]
    assert module_schemes.tried_when_half(part, first, other) == module_schemes.Halfway(0.2, 0.0, 3 * MS)
    assert module_schemes.tried_when_half([], first, other) == module_schemes.Halfway(0.0, 0.0, 0)

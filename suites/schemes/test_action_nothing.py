# SPDX-License-Identifier: GPL-2.0
"""What does nothing to memory: stat, and actions that an
operations set does not have; and ranges with holes."""

from dataclasses import replace

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx, DamonTarget
from damon_tests.damon.series import Series
from damon_tests.judge import rule_limits
from damon_tests.judge.monitoring.aggregation_windows import settled
from damon_tests.judge.schemes import effects
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import NSEC_PER_SEC, huge_page_size
from damon_tests.scenario.acting import BEFORE_APPLY, act, scheme
from damon_tests.scenario.invariants import invariants

pytestmark = pytest.mark.needs("filters.addr", BEFORE_APPLY, "damon_aggregated")

ATTRS = DamonAttrs(min_nr_regions=10, max_nr_regions=100)
VADDR = DamonCtx("vaddr", attrs=ATTRS)
PADDR = DamonCtx("paddr", attrs=ATTRS)
WATCHED = {"cover": "regions", "watched": 1, "extra_events": [BEFORE_APPLY]}
# All that the actions would need: so that what is not done is not for lack of it. And so much memory that the
# kernel itself ages none: it keeps some blocks of the size of a huge page free.
ALL = pytest.mark.needs(
    swap_mib=256, lru_lists=1, thp_on_advice=1, numa_nodes=2, memory_mib=48 * huge_page_size() >> 20
)

UNKNOWN = {
    "vaddr": ("lru_prio", "lru_deprio"),
    "paddr": ("willneed", "cold", "hugepage", "nohugepage"),
}


def everything_of(run):
    """Return all monitored ranges, in bytes."""
    return [r for target in run.ctx.targets for r in target.regions]


def unchanged(expect, name, done):
    """Expect that nothing happened to any memory, and nothing counts as applied."""
    expect.add(effects.spares_others(name, effects.all_spared(done.pairs().values())))
    applied = Measurement(f"{name}: applied", sum(s.nr_applied + s.sz_applied for s in done.stats), "count")
    expect.equal(applied, 0, because="such an action is never applied (§4.10)")
    tried = Measurement(f"{name}: fewest tries", min(s.nr_tried for s in done.stats), "count")
    expect.at_least(tried, 1, because="such an action counts as tried (§4.10)")


@ALL
@pytest.mark.parametrize(
    "ctx", [pytest.param(VADDR, marks=pytest.mark.profile("full")), PADDR], ids=["vaddr", "paddr"]
)
def test_stat_changes_nothing(live, expect, ctx):
    """stat changes neither memory nor ages, however often it is tried."""
    with live("two_idle_regions", ctx, **WATCHED) as run:
        done = act(run, scheme("stat"), over=everything_of(run), passes=20)
        run.record(0.3)
    unchanged(expect, "stat", done)
    expect.add(invariants(run))  # ages of idle memory grow by one: I31, I32
    # Before, accessed bits that were set before monitoring began may cost ages.
    after_ns = run.recording().started_ns + NSEC_PER_SEC // 2
    aged = [w.snapshot for w in settled(run.recording(), after_ns)]
    m = Measurement("oldest age", int(aged[-1].age.max()), "aggregations")
    # Merging takes means, which truncate; regions of one age lose nothing.
    why = "stat never changes ages, so that idle memory is as old as it was watched (I31)"
    expect.at_least(m, len(aged) - 1, because=why)


@ALL
@pytest.mark.parametrize("ops", ["vaddr", "paddr"])
def test_unsupported_actions_do_nothing_but_reset_ages(live, expect, ops):
    """An action that the operations set does not have is tried everywhere, does nothing, and resets ages."""
    ctx = VADDR if ops == "vaddr" else PADDR
    actions = UNKNOWN[ops]
    with live(["two_idle_regions", "huge_if_advised"], ctx, **WATCHED) as run:
        level = Series.of(run.level)
        if ops == "vaddr" and not level.migrates_in_vaddr:
            actions += ("migrate_hot", "migrate_cold")
        if ops == "paddr" and level.collapses:
            actions += ("collapse",)
        done = act(run, *(scheme(a, target_nid=1) for a in actions), over=everything_of(run), passes=20)
    unchanged(expect, f"{ops} {' '.join(actions)}", done)
    part = run.parts()[1]
    ages = [int(snap.age.max()) for snap in part.recording.snapshots]
    # Schemes are due five times in an aggregation; merging then makes ages older by one.
    m = Measurement("oldest age while tried", max(ages, default=0), "aggregations", tuple(map(float, ages)))
    enough = Measurement("aggregations judged", len(ages), "count")
    expect.add(
        Check(
            "invariant",
            enough,
            ">= 2",
            "two aggregations passed; else nothing is tested",
            len(ages) >= 2 or None,
        )
    )
    limit = 1 + rule_limits.extra_age(part.ctx, level)
    expect.at_most(
        m, limit, because="any action except stat resets the age, even if nothing was applied (I31)"
    )


@pytest.mark.needs("schemes.pageout", swap_mib=256)
def test_madvise_over_a_hole_acts_on_the_mapped_parts(live, expect):
    """madvise() over a range with a hole acts on what is mapped, and counts as not applied at all."""
    with live("two_idle_regions", replace(VADDR, operations="fvaddr"), **WATCHED) as run:
        low, high = sorted(run.target.layout.values())
        span = (low[0], high[1])
        run.commit(replace(run.ctx, targets=(DamonTarget(run.target.pid, (span,)),)))
        done = act(run, scheme("pageout"), over=[span], passes=2)
        mapped = run.subject.vmas(run.target)
    effect = effects.all_spared(done.others("data", "other"))
    for region in ("data", "other"):
        before, after = done.pair(region)
        effect += effects.effect(before, after, before.present, lambda pages: pages.swapped)
    expect.add(
        effects.takes_effect("pageout", effect, "madvise() acts on the mapped parts (§4.10)", least=16 << 20)
    )
    tried = [(event.start, event.end) for event in done.counted[0]]
    whole = effects.fully_mapped(tried, mapped)
    holes = Measurement("tried bytes of ranges with holes", done.sz_counted() - whole, "bytes")
    shown = holes.value > 0 or None
    expect.add(Check("invariant", holes, "> 0", "a range has a hole; else nothing is tested", shown))
    why = "sz_applied is the whole length where all is mapped, else 0 (§4.10)"
    expect.add(effects.applied("pageout", done.stats[0].sz_applied, whole, whole, why, effect=effect.gained))

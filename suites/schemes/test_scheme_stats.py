# SPDX-License-Identifier: GPL-2.0
"""Scheme statistics: stats/ and tracepoints report what was tried, applied and passed by filters."""

from dataclasses import replace

import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, Damos, DamosFilter, DamosQuota
from damon_tests.damon.series import Series
from damon_tests.damon.trace import EszEvent
from damon_tests.judge.schemes import stats as scheme_stats
from damon_tests.judge.schemes import watched_passes
from damon_tests.judge.verdict import Measurement
from damon_tests.patterns.spec import Pattern, PatternRegion, Phase
from damon_tests.ports import NSEC_PER_SEC, page_size
from damon_tests.scenario.invariants import invariants
from damon_tests.scenario.watched_run import passes_of, read_stats, watched

pytestmark = pytest.mark.needs(
    "ops.fvaddr", "schemes.stat", "schemes.apply_interval_us", "damon_aggregated", "damos_before_apply"
)

MIB = 1 << 20
ATTRS = DamonAttrs(10_000, 100_000, min_nr_regions=5, max_nr_regions=20)
WATCHER = Damos("stat", ANY, apply_interval_us=50_000)
COLD = replace(ANY, nr_accesses_max=0)


def test_counters_match_the_traced_tries(live, expect):
    """Whenever stats are read they are the sums of the regions traced so far; stat applies nothing."""
    schemes = (WATCHER, Damos("stat", COLD), Damos("willneed", COLD), Damos("stat"), Damos("lru_prio", COLD))
    with watched(live, "hot_cold", DamonCtx("fvaddr", attrs=ATTRS, schemes=schemes)) as run:
        readings = []
        for _ in range(8):
            run.record(0.13)
            readings += _read(run)
        run.record(0.2, aggregations=2)
    passes = passes_of(run)
    expect.add(invariants(run))
    expect.add(watched_passes.tried_as_asked(passes, run.ctx))
    expect.add(scheme_stats.stats_after_passes(passes, run.ctx, run.level))
    expect.add(scheme_stats.stats_when_read(passes, readings, run.ctx))
    last = readings[-len(schemes) :]
    for i, share, why in (
        (2, 1, "willneed applies to all mapped memory"),
        (4, 0, "vaddr has no lru_prio (Q14)"),
    ):
        stats = last[i].stats
        m = Measurement(f"bytes applied by {schemes[i].action}", stats.sz_applied, "bytes")
        expect.equal(m, share * stats.sz_tried, because=f"{why} (§4.10)")


def test_failed_actions_are_not_counted_as_applied(live, expect):
    """Regions that are not mapped in part are tried, and count as nothing applied."""
    schemes = (WATCHER, Damos("willneed", ANY), Damos("cold", ANY, apply_interval_us=50_000))
    ctx = DamonCtx("fvaddr", attrs=replace(ATTRS, min_nr_regions=20, max_nr_regions=40), schemes=schemes)
    with watched(live, _with_a_hole(), ctx) as run:
        run.record(0.5, aggregations=3)
        readings = _read(run)
        run.record(0.2, aggregations=2)
    passes = passes_of(run)
    expect.add(watched_passes.tried_as_asked(passes, run.ctx))
    expect.add(scheme_stats.stats_after_passes(passes, run.ctx, run.level, run.vmas[0]))
    expect.add(scheme_stats.stats_when_read(passes, readings, run.ctx, run.vmas[0]))


def _with_a_hole():
    """Return a pattern with one region mapped in its first half only, and one mapped whole."""
    regions = (
        PatternRegion("half", 16 * MIB, mapped_bytes=8 * MIB + page_size()),
        PatternRegion("whole", 8 * MIB),
    )
    return Pattern(
        "with_a_hole",
        "memory with a hole in it",
        regions,
        (Phase("idle", 3600 * NSEC_PER_SEC, ()),),
        repeat=True,
    )


@pytest.mark.needs("stats.sz_ops_filter_passed", "ops_filters.anon")
def test_passed_bytes_agree_everywhere(live, expect):
    """stats, tracepoints and tried regions report the same bytes that passed a page filter."""
    anon = (DamosFilter("anon", matching=True, allow=True),)
    none = (DamosFilter("anon", matching=True, allow=False),)
    schemes = (WATCHER, Damos("stat", ANY, ops_filters=anon), Damos("stat", ANY, ops_filters=none))
    with watched(live, "idle", DamonCtx("fvaddr", attrs=ATTRS, schemes=schemes)) as run:
        if not Series.of(run.level).filters_pages_of_vaddr_stat:
            pytest.skip("before 6.18 vaddr does not ask page filters for stat")
        run.record(0.5, aggregations=3)
        readings = _read(run)
        regions = run.client.tried_regions(0, 1).regions
        run.record(0.2, aggregations=2)
    passes = passes_of(run)
    expect.add(invariants(run))
    expect.add(scheme_stats.stats_after_passes(passes, run.ctx, run.level))
    expect.add(scheme_stats.stats_when_read(passes, readings, run.ctx))
    for i, share in ((1, 1), (2, 0)):
        stats = readings[i].stats
        m = Measurement(f"bytes passed by scheme {i}", stats.sz_ops_filter_passed, "bytes")
        expect.equal(m, share * stats.sz_tried, because="all tried memory is anonymous and present (§4.8)")
    m = Measurement("bytes passed in tried_regions", float(regions.sz_filter_passed.sum()), "bytes")
    expect.equal(
        m, float(regions.sizes.sum()), because="all memory of the pass is anonymous and present (§4.8)"
    )


@pytest.mark.needs("commands.commit")
def test_counters_survive_commits(live, expect):
    """A commit changes what a scheme does, and keeps its counters; a new scheme starts at 0."""
    first = (WATCHER, Damos("stat", ANY), Damos("willneed", COLD))
    others = (WATCHER, Damos("willneed", ANY, apply_interval_us=50_000), Damos("stat", COLD))
    with watched(live, "hot_cold", DamonCtx("fvaddr", attrs=ATTRS, schemes=first)) as run:
        readings = []
        run.record(0.5, aggregations=3)
        readings += _read(run)
        run.commit_unchanged()
        readings += _read(run)
        for schemes in (others, others[:2], first[:2]):
            run.commit(replace(run.ctx, schemes=schemes))
            run.record(0.25)
            readings += _read(run)
        run.commit(replace(run.ctx, schemes=first))
        new = run.client.stats(0, 2)
        run.record(0.2, aggregations=2)
    passes = passes_of(run)
    ctx = replace(run.ctx, schemes=(Damos(), Damos("willneed"), Damos("willneed")))
    expect.add(scheme_stats.stats_when_read(passes, readings, ctx))
    since = [t for p in passes if p.time_ns > run.commits[-1].begin_ns for t in p.tries if t.scheme_idx == 2]
    m = Measurement("tries of a scheme that was removed and is there again", new.nr_tried, "count")
    expect.at_most(m, len(since), because="a commit destroys a removed scheme with its statistics (§5.6)")


@pytest.mark.profile("full")
def test_counters_start_at_0_after_off_and_on(live, expect):
    """A kdamond that is turned off and on again counts from 0."""
    with watched(live, "idle", DamonCtx("fvaddr", attrs=ATTRS, schemes=(WATCHER,))) as run:
        run.record(0.5, aggregations=3)
        before = run.client.stats(0, 0)
        run.client.command(0, "off")
        run.client.restage([replace(run.session.kdamonds[0], ctx=replace(run.ctx, schemes=(Damos("stat"),)))])
        run.client.command(0, "on")
        run.session.record(20 * NSEC_PER_SEC, until=lambda: run.client.stats(0, 0).nr_snapshots != 0)
        after = run.client.stats(0, 0)
    expect.at_least(
        Measurement("tries before", before.nr_tried, "count"), 1, because="half a second has passes of 50 ms"
    )
    m = Measurement("tries after", after.nr_tried, "count")
    expect.equal(m, 0, because="counters start at 0 with on, and the scheme matches nothing now (I61)")
    if after.nr_snapshots is not None:
        m = Measurement("most snapshots after", after.nr_snapshots, "count")
        expect.at_least(m, 1, because="a pass counts as a snapshot whatever it tries (§4.2)")


@pytest.mark.known_defect("first-window-without-quota")
def test_qt_exceeds_counts_full_windows(live, expect):
    """qt_exceeds counts exactly the windows that ended full; damos_esz traces the quota once."""
    quotas = (MIB, 8 * MIB, 1 << 40)
    limited = [Damos("stat", ANY, quota=DamosQuota(bytes=n, reset_interval_ms=1)) for n in quotas]
    schemes = (replace(WATCHER, apply_interval_us=0), *limited, Damos("stat", ANY))
    ctx = DamonCtx("fvaddr", attrs=ATTRS, schemes=schemes)
    with watched(live, "idle", ctx, "damos_esz") as run:
        run.record(0.9, aggregations=6)
        readings = _read(run)
        effective = [run.client.effective_bytes(0, i) for i in range(1, 5)]
        run.record(0.2, aggregations=2)
    passes = passes_of(run)
    expect.add(invariants(run))
    expect.add(scheme_stats.stats_after_passes(passes, run.ctx, run.level))
    expect.add(scheme_stats.exceeded(passes, run.ctx, run.level, readings))
    wrong = [
        f"{size}, not {asked}" for size, asked in zip(effective, [*quotas, 0], strict=True) if size != asked
    ]
    expect.nothing(
        "effective quotas that differ", wrong, because="without goals and time the size is in force (I56)"
    )
    if live.backend().capabilities().has("damos_esz"):
        reported = [(e.scheme_idx, e.esz) for e in run.session.events("damos_esz") if isinstance(e, EszEvent)]
        # Before 7.1 the first window's is not traced.
        traced = reported or Series.of(run.level).traces_first_effective_size
        wanted = list(enumerate(quotas, 1)) if traced else []
        wrong = [f"traced {sorted(reported)}, not {wanted}"] if sorted(reported) != wanted else []
        expect.nothing(
            "damos_esz that differ",
            wrong,
            because="damos_esz is traced in the first window and at changes (§7)",
        )


def _read(run):
    return read_stats(run.client, len(run.ctx.schemes))

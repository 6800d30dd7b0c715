# SPDX-License-Identifier: GPL-2.0
"""Do the counters of schemes say what damos_before_apply says?

Counters are compared with the tries of the passes (``judge.schemes.watched_passes``) before them: after each
pass as damos_stat_after_apply_interval reports them (since 7.0), and as ``stats/`` shows them when read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from damon_tests.damon.params import DamonCtx, Damos
from damon_tests.damon.records import DamosStats
from damon_tests.damon.series import Series
from damon_tests.damon.trace import StatEvent
from damon_tests.judge import rule_limits
from damon_tests.judge.schemes.watched_passes import Try, WatchedPass, no_difference
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import NSEC_PER_USEC, PAGE_SIZE, UsageError
from damon_tests.ports.ranges import Range


@dataclass(frozen=True)
class Reading:
    """What ``stats/`` of one scheme held after an update that was asked for at ``begin_ns`` and answered
    before ``end_ns``."""

    begin_ns: int
    end_ns: int
    scheme_idx: int
    stats: DamosStats


@dataclass(frozen=True)
class Total:
    """What one scheme did in all passes so far; applied None where that is not certain."""

    nr_tried: int = 0
    sz_tried: int = 0
    nr_applied: int | None = None
    sz_applied: int | None = None


def totals(
    recorded: Sequence[WatchedPass], schemes: Sequence[Damos], mapped: Sequence[Range] | None = None
) -> list[list[Total]]:
    """Return what every scheme had done before the first pass, and after each; shape (1 + passes, schemes).

    ``mapped``: the target's mappings, sorted, for schemes whose actions are madvise() (I42): these are
    applied to a region when all of it is mapped.
    """
    joined = rule_limits.aligned_union(mapped, PAGE_SIZE) if mapped is not None else None
    now = [_nothing_yet(scheme, joined is not None) for scheme in schemes]
    found = [now]
    for one in recorded:
        now = list(now)
        for tried in one.tries:
            now[tried.scheme_idx] = _with(now[tried.scheme_idx], tried, schemes, joined or ())
        found.append(now)
    return found


def _nothing_yet(scheme: Damos, is_known: bool) -> Total:
    return Total(0, 0, 0, 0) if scheme.action == "stat" or is_known else Total()


def _with(total: Total, tried: Try, schemes: Sequence[Damos], mapped: Sequence[Range]) -> Total:
    size = tried.end - tried.start
    nr, sz = total.nr_applied, total.sz_applied
    if nr is not None and sz is not None and schemes[tried.scheme_idx].action != "stat":
        whole = any(start <= tried.start and tried.end <= end for start, end in mapped)
        nr, sz = nr + whole, sz + whole * size
    return Total(total.nr_tried + 1, total.sz_tried + size, nr, sz)


def differences(stats: DamosStats, total: Total) -> list[str]:
    """Return how the counters differ from those of these tries, or contradict themselves."""
    found = []
    if (stats.nr_tried, stats.sz_tried) != (total.nr_tried, total.sz_tried):
        found.append(
            f"nr_tried={stats.nr_tried} sz_tried={stats.sz_tried},"
            f" traced were {total.nr_tried} of {total.sz_tried} bytes"
        )
    applied = f"nr_applied={stats.nr_applied} of {stats.nr_tried}, sz_applied={stats.sz_applied}"
    if stats.nr_applied > stats.nr_tried or (stats.nr_applied > 0) != (stats.sz_applied > 0):
        found.append(applied)
    known = (total.nr_applied, total.sz_applied)
    if known[0] is not None and known != (stats.nr_applied, stats.sz_applied):
        found.append(f"{applied}: could be applied to {known[0]} regions of {known[1]} bytes")
    return found


# --- after each pass -----------------------------------------------------------------------------


def stats_after_passes(
    recorded: Sequence[WatchedPass], ctx: DamonCtx, mapped: Sequence[Range] | None = None
) -> list[Check]:
    """Check damos_stat_after_apply_interval against the tries before it (I54), the action (I41, I42) and
    itself (I61). Exact, from the kdamond's start; ``mapped`` as ``totals`` has it."""
    wrong, detail = [], ""
    before: dict[int, tuple[int, ...]] = {}
    for one, event, total in _traced(recorded, totals(recorded, ctx.schemes, mapped)):
        i = event.scheme_idx
        counters = _counters(event)
        found = differences(_stats(event), total)
        if any(now < then for now, then in zip(counters, before.get(i, ()), strict=False)):
            found.append(f"{counters} after {before[i]}")
        before[i] = counters
        wrong.append(float(len(found)))
        if found and not detail:
            detail = f"scheme {i} after pass {one.number}: {found[0]}"
    if not wrong:
        return []
    m = Measurement("statistics that differ from the tries traced", sum(wrong), "count", tuple(wrong))
    why = f"statistics add up what was tried and applied; {len(wrong)} events"
    return [no_difference(m, recorded, why, detail, "I41, I42, I54, I61")]


def _traced(
    recorded: Sequence[WatchedPass], after: Sequence[Sequence[Total]]
) -> Iterator[tuple[WatchedPass, StatEvent, Total]]:
    for one, total in zip(recorded, after[1:], strict=True):
        for event in one.stats:
            yield one, event, total[event.scheme_idx]


def _counters(e: StatEvent) -> tuple[int, ...]:
    passed = e.sz_ops_filter_passed
    return e.nr_tried, e.sz_tried, e.nr_applied, e.sz_applied, passed, e.qt_exceeds, e.nr_snapshots


def _stats(event: StatEvent) -> DamosStats:
    nr_tried, sz_tried, nr_applied, sz_applied, passed, qt_exceeds, nr_snapshots = _counters(event)
    return DamosStats(nr_tried, sz_tried, nr_applied, sz_applied, qt_exceeds, passed, nr_snapshots)


# --- as stats/ shows them ------------------------------------------------------------------------


def stats_when_read(
    recorded: Sequence[WatchedPass],
    readings: Sequence[Reading],
    ctx: DamonCtx,
    mapped: Sequence[Range] | None = None,
) -> Check:
    """Check that ``stats/`` shows the tries until a moment between the request and its answer (I54). Exact.

    Readings after the last whole pass that was recorded are left out; ``mapped`` as ``totals`` has it.
    """
    after = totals(recorded, ctx.schemes, mapped)
    wrong, looked_at, detail = 0, 0, ""
    for reading in readings:
        possible = [after[i][reading.scheme_idx] for i in passes_before(recorded, reading)]
        looked_at += bool(possible)
        found = [differences(reading.stats, total) for total in possible]
        if found and all(found):
            wrong += 1
            detail = detail or f"scheme {reading.scheme_idx}: {found[-1][0]}"
    m = Measurement("readings of stats that differ from the tries traced", wrong, "count")
    why = f"stats/ shows what was tried until it was read; {looked_at} readings"
    return no_difference(m, recorded if looked_at else (), why, detail, "I54")


def passes_before(recorded: Sequence[WatchedPass], reading: Reading) -> list[int]:
    """Return how many passes the update may have come after: it is served between two of them.

    None when that may have been after the last one recorded.
    """
    starts = [one.time_ns for one in recorded]
    if not starts or reading.end_ns > starts[-1]:
        return []
    # Trace prints whole microseconds.
    return [
        i
        for i in range(len(starts))
        if starts[i] >= reading.begin_ns - NSEC_PER_USEC and (i == 0 or starts[i - 1] <= reading.end_ns)
    ]


# --- charge windows ------------------------------------------------------------------------------


def exceeded(
    recorded: Sequence[WatchedPass], ctx: DamonCtx, level: str, readings: Sequence[Reading]
) -> Check:
    """Check I47 and I48: qt_exceeds is the number of charge windows that ended full. Exact.

    For size quotas whose reset interval is shorter than the time between two passes, so that every pass has a
    window of its own, which the next one ends.
    """
    rest = rule_limits.min_region_sz(ctx) if Series.of(level).is_full_below_min_region else 1
    expected = {i: _full_before(recorded, i, s.quota.bytes, rest) for i, s in _limited(ctx)}
    wrong, looked_at, detail = 0, 0, ""
    traced = [(e.scheme_idx, e.qt_exceeds, (p.number,)) for p in recorded for e in p.stats]
    read_ = [(r.scheme_idx, r.stats.qt_exceeds, tuple(passes_before(recorded, r))) for r in readings]
    for i, qt_exceeds, moments in [*traced, *read_]:
        possible = [expected[i][after] if i in expected else 0 for after in moments]
        looked_at += bool(possible)
        if possible and qt_exceeds not in possible:
            wrong += 1
            detail = detail or f"scheme {i} after pass {moments[-1]}: {qt_exceeds}, not {possible[-1]}"
    m = Measurement("counts of exceeded quotas that are wrong", wrong, "count")
    why = f"qt_exceeds counts the charge windows that ended full; {looked_at} counts"
    return no_difference(m, recorded if looked_at else (), why, detail, "I47, I48")


def _limited(ctx: DamonCtx) -> Iterator[tuple[int, Damos]]:
    for i, scheme in enumerate(ctx.schemes):
        quota = scheme.quota
        if quota.ms or quota.goals or quota.fail_charge_denom:
            raise UsageError(f"scheme {i}: what its quota charges does not follow from the tries alone")
        if quota.bytes:
            yield i, scheme


def _full_before(recorded: Sequence[WatchedPass], scheme_idx: int, quota: int, rest: int) -> list[int]:
    """Return how many windows had ended full before the first pass, and after each: the last one's is still
    open."""
    counts, full = [0], 0
    for one in recorded:
        counts.append(full)
        charged = sum(t.end - t.start for t in one.tries if t.scheme_idx == scheme_idx)
        full += charged > quota - rest
    return counts

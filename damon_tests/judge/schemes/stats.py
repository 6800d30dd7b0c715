# SPDX-License-Identifier: GPL-2.0
"""Check that the counters of schemes agree with damos_before_apply.

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
from damon_tests.ports import NSEC_PER_USEC, UsageError, page_size
from damon_tests.ports.ranges import Range
from damon_tests.ports.word import unsigned_long_max


@dataclass(frozen=True)
class Reading:
    """``stats/`` of one scheme after an update, written at ``begin_ns`` and returned by ``end_ns``."""

    begin_ns: int
    end_ns: int
    scheme_idx: int
    stats: DamosStats


@dataclass(frozen=True)
class Total:
    """The counters of one scheme over all passes so far; nr_applied and sz_applied None: not certain."""

    nr_tried: int = 0
    sz_tried: int = 0
    nr_applied: int | None = None
    sz_applied: int | None = None


def totals(
    recorded: Sequence[WatchedPass], schemes: Sequence[Damos], mapped: Sequence[Range] | None = None
) -> list[list[Total]]:
    """Return the counters of every scheme before the first pass and after each; shape (1 + passes, schemes).

    ``mapped``: the target's mappings, sorted byte ranges, for actions that are madvise() (I42): these count a
    region as applied when all of it is mapped.
    """
    joined = rule_limits.aligned_union(mapped, page_size()) if mapped is not None else None
    now = [_nothing_yet(scheme, joined is not None) for scheme in schemes]
    after = [now]
    for watched in recorded:
        now = list(now)
        for tried in watched.tries:
            now[tried.scheme_idx] = _with(now[tried.scheme_idx], tried, schemes, joined or ())
        after.append(now)
    return after


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
    """Return how the counters differ from the traced tries, or contradict each other.

    They are as wide as the machine's ``unsigned long``: with 32 bits, those of bytes begin again at 4 GiB.
    """
    reasons, most = [], unsigned_long_max()
    if (stats.nr_tried, stats.sz_tried) != (total.nr_tried, total.sz_tried & most):
        reasons.append(
            f"nr_tried={stats.nr_tried} sz_tried={stats.sz_tried},"
            f" the trace has {total.nr_tried} of {total.sz_tried} bytes"
        )
    applied = f"nr_applied={stats.nr_applied} of {stats.nr_tried}, sz_applied={stats.sz_applied}"
    wrapped = total.sz_tried > most
    if stats.nr_applied > stats.nr_tried or (
        not wrapped and (stats.nr_applied > 0) != (stats.sz_applied > 0)
    ):
        reasons.append(applied)
    nr, sz = total.nr_applied, total.sz_applied
    if nr is not None and sz is not None and (nr, sz & most) != (stats.nr_applied, stats.sz_applied):
        reasons.append(f"{applied}: could be applied to {nr} regions of {sz} bytes")
    return reasons


# --- after each pass -----------------------------------------------------------------------------


def stats_after_passes(
    recorded: Sequence[WatchedPass], ctx: DamonCtx, level: str, mapped: Sequence[Range] | None = None
) -> list[Check]:
    """Check damos_stat_after_apply_interval, on series that have it; undecided if none was traced there.

    Against the traced tries (I54), the action (I41, I42) and itself (I61).

    Exact, for passes from the kdamond's start. ``mapped``: as in ``totals``.
    """
    wrong, detail = [], ""
    before: dict[int, tuple[int, ...]] = {}
    for watched, event, total in _traced(recorded, totals(recorded, ctx.schemes, mapped)):
        i = event.scheme_idx
        counters = _counters(event)
        reasons = differences(_stats(event), total)
        wrapped = total.sz_tried > unsigned_long_max()
        if not wrapped and any(now < then for now, then in zip(counters, before.get(i, ()), strict=False)):
            reasons.append(f"{counters} after {before[i]}")
        before[i] = counters
        wrong.append(float(len(reasons)))
        if reasons and not detail:
            detail = f"scheme {i} after pass {watched.number}: {reasons[0]}"
    if not wrong and not Series.of(level).traces_statistics:
        return []
    m = Measurement("statistics that differ from the tries traced", sum(wrong), "count", tuple(wrong))
    why = f"statistics add up what was tried and applied; {len(wrong)} events"
    return [no_difference(m, recorded if wrong else (), why, detail, "I41, I42, I54, I61")]


def _traced(
    recorded: Sequence[WatchedPass], after: Sequence[Sequence[Total]]
) -> Iterator[tuple[WatchedPass, StatEvent, Total]]:
    for watched, total in zip(recorded, after[1:], strict=True):
        for event in watched.stats:
            yield watched, event, total[event.scheme_idx]


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
    """Check that ``stats/`` shows the tries until a time between command and return (I54). Exact.

    Readings after the last complete recorded pass are left out. ``mapped``: as in ``totals``.
    """
    after = totals(recorded, ctx.schemes, mapped)
    wrong, judged, detail = 0, 0, ""
    for reading in readings:
        possible = [after[i][reading.scheme_idx] for i in passes_before(recorded, reading)]
        judged += bool(possible)
        reasons = [differences(reading.stats, total) for total in possible]
        if reasons and all(reasons):
            wrong += 1
            detail = detail or f"scheme {reading.scheme_idx}: {reasons[-1][0]}"
    m = Measurement("readings of stats that differ from the tries traced", wrong, "count")
    why = f"stats/ shows what was tried until it was read; {judged} readings"
    return no_difference(m, recorded if judged else (), why, detail, "I54")


def passes_before(recorded: Sequence[WatchedPass], reading: Reading) -> list[int]:
    """Return the possible numbers of passes before the update, which DAMON serves between two passes.

    Empty when it may have been served after the last recorded pass.
    """
    starts = [watched.time_ns for watched in recorded]
    if not starts or reading.end_ns > starts[-1]:
        return []
    # Trace prints whole microseconds.
    return [
        i
        for i in range(len(starts))
        if starts[i] >= reading.begin_ns - NSEC_PER_USEC and (i == 0 or starts[i - 1] <= reading.end_ns)
    ]


def passes_shown(
    recorded: Sequence[WatchedPass],
    readings: Sequence[Reading],
    reading: Reading,
    after: Sequence[Sequence[Total]],
) -> tuple[int, ...]:
    """Return the possible numbers of passes before the update whose tries the readings of one command show.

    A command may last longer than a pass takes, so that its time alone leaves several. ``after``: ``totals``.
    All that the time leaves if the tries agree with none: then ``stats_when_read`` fails.
    """
    possible = passes_before(recorded, reading)
    together = [r for r in readings if r.begin_ns == reading.begin_ns]
    shown = [
        i for i in possible if all(r.stats.sz_tried == after[i][r.scheme_idx].sz_tried for r in together)
    ]
    return tuple(shown or possible)


# --- charge windows ------------------------------------------------------------------------------


def exceeded(
    recorded: Sequence[WatchedPass], ctx: DamonCtx, level: str, readings: Sequence[Reading]
) -> Check:
    """Check I47 and I48: qt_exceeds is the number of charge windows that ended full. Exact.

    For size quotas whose reset interval is shorter than the time between two passes, so that every pass
    begins a window. Raises UsageError for time quotas, goals and fail charges.
    """
    rest = rule_limits.min_region_sz(ctx) if Series.of(level).is_full_below_min_region else 1
    expected = {i: _full_before(recorded, i, s.quota.bytes, rest) for i, s in _limited(ctx)}
    wrong, judged, detail = 0, 0, ""
    traced = [(e.scheme_idx, e.qt_exceeds, (p.number,)) for p in recorded for e in p.stats]
    after_passes = totals(recorded, ctx.schemes)
    read_ = [
        (r.scheme_idx, r.stats.qt_exceeds, passes_shown(recorded, readings, r, after_passes))
        for r in readings
    ]
    for i, qt_exceeds, moments in [*traced, *read_]:
        possible = [expected[i][after] if i in expected else 0 for after in moments]
        judged += bool(possible)
        if possible and qt_exceeds not in possible:
            wrong += 1
            detail = detail or f"scheme {i} after pass {moments[-1]}: {qt_exceeds}, not {possible[-1]}"
    m = Measurement("counts of exceeded quotas that are wrong", wrong, "count")
    why = f"qt_exceeds counts the charge windows that ended full; {judged} counts"
    return no_difference(m, recorded if judged else (), why, detail, "I47, I48")


def _limited(ctx: DamonCtx) -> Iterator[tuple[int, Damos]]:
    for i, scheme in enumerate(ctx.schemes):
        quota = scheme.quota
        if quota.ms or quota.goals or quota.fail_charge_denom:
            raise UsageError(f"scheme {i}: what its quota charges does not follow from the tries alone")
        if quota.bytes:
            yield i, scheme


def _full_before(recorded: Sequence[WatchedPass], scheme_idx: int, quota: int, rest: int) -> list[int]:
    """Return how many windows had ended full before the first pass and after each.

    The last window is still open.
    """
    counts, full = [0], 0
    for watched in recorded:
        counts.append(full)
        charged = sum(t.end - t.start for t in watched.tries if t.scheme_idx == scheme_idx)
        full += charged > quota - rest
    return counts

# SPDX-License-Identifier: GPL-2.0
"""What passes of schemes leave behind: the same memory, in regions whose age is 0 where something was done.

For passes with a watcher (``judge.schemes.watched_passes``) that is due at every aggregation, of ranges that
do not change (fvaddr, paddr). Quotas may cut regions here, and several schemes may act.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from damon_tests.damon.params import DamonCtx
from damon_tests.damon.series import Series
from damon_tests.judge import rule_limits
from damon_tests.judge.schemes.watched_passes import Try, WatchedPass, interval_samples, no_difference, spell
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import UsageError


def ages_after_passes(recorded: Sequence[WatchedPass], ctx: DamonCtx, level: str) -> list[Check]:
    """Return all checks below that say something about this request."""
    checks = [aggregations_in_step(recorded, ctx), regions_and_ages(recorded, ctx, level)]
    if Series.of(level).merges_quota_splits_back:
        checks += merged_back(recorded, ctx)
    return checks


def aggregations_in_step(recorded: Sequence[WatchedPass], ctx: DamonCtx) -> Check:
    """Check I35: passes and aggregations are counted in the same samples, so each n-th pass is at one.
    Exact."""
    every = _passes_per_aggregation(ctx)
    wrong = [one.number for one in recorded if bool(one.aggregated) != (one.number % every == 0)]
    m = Measurement("passes out of step with aggregations", len(wrong), "count")
    detail = f"pass {wrong[0]}" if wrong else ""
    return no_difference(m, recorded, f"there is an aggregation every {every} passes", detail, "I35")


def _passes_per_aggregation(ctx: DamonCtx) -> int:
    step = max(1, interval_samples(ctx.schemes[0], ctx.attrs))
    if ctx.attrs.samples_per_aggr % step:
        raise UsageError(f"the first scheme, due every {step} samples, is not due at every aggregation")
    return ctx.attrs.samples_per_aggr // step


def left_by(one: WatchedPass, ctx: DamonCtx) -> list[Try]:
    """Return the regions after a pass, before equal neighbours are merged: of age 0 where a scheme acted.

    A quota cuts a region; what is cut off is visited again, so that later visits overlap earlier ones.
    """
    left: list[Try] = []
    for visit, following in pairwise([*one.visits, None]):
        assert visit is not None
        region = visit.region
        if following is not None and _overlap(region, following.region):
            region = region._replace(end=following.region.start)
        cuts = {edge for t in visit.tried for edge in (t.start, t.end) if region.start < edge < region.end}
        for start, end in pairwise(sorted({region.start, region.end, *cuts})):
            acted = any(
                ctx.schemes[t.scheme_idx].action != "stat" and t.start <= start and end <= t.end
                for t in visit.tried
            )
            left.append(region._replace(start=start, end=end, age=0 if acted else region.age))
    return left


def regions_and_ages(recorded: Sequence[WatchedPass], ctx: DamonCtx, level: str) -> Check:
    """Check I31: an action makes a region's age 0, whatever it achieved, and ``stat`` does not change it.
    I24: a split copies it; I29: an aggregation adds at most one. Exact."""
    extra = rule_limits.extra_age(ctx.attrs.samples_per_aggr, Series.of(level))
    wrong, detail = [], ""
    for one, following in pairwise([*recorded, None]):
        assert one is not None
        differences = _differences(one, following, ctx, extra)
        wrong.append(float(len(differences)))
        if differences and not detail:
            detail = f"pass {one.number}: {differences[0]}"
    m = Measurement("regions that passes did not leave so", sum(wrong), "regions", tuple(wrong))
    return no_difference(m, recorded, "only an action resets an age", detail, "I24, I29, I31")


def _differences(one: WatchedPass, following: WatchedPass | None, ctx: DamonCtx, extra: int) -> list[str]:
    left = left_by(one, ctx)
    if one.aggregated:
        traced = [Try(0, e.target_id, e.start, e.end, e.nr_accesses, e.age) for e in one.aggregated]
        found = [f"aggregated: {text}" for text in not_made_of(traced, left, counts=True)]
        if following and not following.aggregated:
            found += [f"split: {text}" for text in not_cut_from(_regions(following), traced)]
        return found
    if following is None:
        return []
    if following.aggregated:
        return _too_old(_regions(following), left, 1 + extra)
    return [f"next: {text}" for text in not_made_of(_regions(following), left, counts=False)]


def _regions(one: WatchedPass) -> list[Try]:
    """Return the regions at the beginning of a pass: without what quotas cut off in it."""
    found: list[Try] = []
    for visit in one.visits:
        region = visit.region
        if not found or found[-1].target_idx != region.target_idx or region.start >= found[-1].end:
            found.append(region)
    return found


def not_made_of(wholes: Iterable[Try], parts: Sequence[Try], *, counts: bool) -> list[str]:
    """Return the regions that are no unions of whole parts with their age (and, if ``counts``,
    nr_accesses)."""
    found, at = [], 0
    for whole in wholes:
        pieces = []
        while at < len(parts) and _inside(parts[at], whole):
            pieces.append(parts[at])
            at += 1
        exact = pieces and pieces[0].start == whole.start and pieces[-1].end == whole.end
        same = all(p.age == whole.age and (not counts or p.nr_accesses == whole.nr_accesses) for p in pieces)
        if not exact or not same:
            found.append(f"{spell(whole)} of {', '.join(map(spell, pieces[:4])) or 'nothing'}")
    if at < len(parts):
        found.append(f"{spell(parts[at])} is gone")
    return found


def not_cut_from(parts: Iterable[Try], wholes: Sequence[Try]) -> list[str]:
    """Return the regions that do not lie in one of ``wholes`` with its age."""
    found: list[str] = []
    at = 0
    for part in parts:
        while at < len(wholes) and not _inside(part, wholes[at]):
            at += 1
        if at == len(wholes):
            return [*found, f"{spell(part)} is not inside one region of before"]
        if part.age != wholes[at].age:
            found.append(f"{spell(part)} was cut from {spell(wholes[at])}")
    return found


def _too_old(regions: Iterable[Try], left: Sequence[Try], most: int) -> list[str]:
    """Return the regions more than ``most`` aggregations older than all of what they were made of."""
    found, at = [], 0
    for region in regions:
        while at < len(left) and not _overlap(left[at], region):
            at += 1
        oldest, i = 0, at
        while i < len(left) and _overlap(left[i], region):
            oldest = max(oldest, left[i].age)
            i += 1
        at = max(at, i - 1)  # the last one may reach into the next region
        if region.age > oldest + most:
            found.append(f"{spell(region)} was {oldest} at most")
    return found


def _inside(part: Try, whole: Try) -> bool:
    return part.target_idx == whole.target_idx and whole.start <= part.start and part.end <= whole.end


def _overlap(a: Try, b: Try) -> bool:
    return a.target_idx == b.target_idx and a.start < b.end and b.start < a.end


# --- merging back ------------------------------------------------------------------------------


def merged_back(recorded: Sequence[WatchedPass], ctx: DamonCtx) -> list[Check]:
    """Check that a pass leaves no equal neighbours apart that are small enough to be one, however it cut
    them. Exact.

    Judged in silent memory only: there nr_accesses, also of the last window, are 0, and age decides. Since
    7.2.
    """
    total = sum(region.end - region.start for region in left_by(recorded[0], ctx)) if recorded else 0
    limit = max(total // ctx.attrs.min_nr_regions, rule_limits.min_region_sz(ctx))
    wrong, detail, silent, judged_pairs = [], "", False, 0
    for one, following in pairwise([*recorded, None]):
        assert one is not None
        if silent and not any(visit.region.nr_accesses for visit in one.visits):
            pairs = _equal_neighbours(_after(one, following))
            apart = [(a, b) for a, b in pairs if b.end - a.start <= limit]
            judged_pairs += len(pairs)
            wrong.append(float(len(apart)))
            if apart and not detail:
                detail = f"pass {one.number} left {spell(apart[0][0])} and {spell(apart[0][1])}"
        if one.aggregated:
            silent = not any(event.nr_accesses for event in one.aggregated)
    if not wrong:
        return []
    m = Measurement("equal neighbours left apart", sum(wrong), "pairs", tuple(wrong))
    why = f"equal neighbours are merged up to {limit} (§4.2); {judged_pairs} pairs looked at"
    return [Check("invariant", m, "== 0", why, not detail, detail)]


def _after(one: WatchedPass, following: WatchedPass | None) -> list[Try]:
    """Return the regions as they are traced next, before any aggregation's merging or splitting."""
    if one.aggregated:
        return [Try(0, e.target_id, e.start, e.end, e.nr_accesses, e.age) for e in one.aggregated]
    if following is None or following.aggregated:
        return []
    return _regions(following)


def _equal_neighbours(regions: Sequence[Try]) -> list[tuple[Try, Try]]:
    return [
        (a, b)
        for a, b in pairwise(regions)
        if a.target_idx == b.target_idx and a.end == b.start and a.age == b.age
    ]

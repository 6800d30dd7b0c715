# SPDX-License-Identifier: GPL-2.0
"""Check the regions after passes of schemes: the same memory, with age 0 where an action was applied.

The passes need a watcher (``judge.schemes.watched_passes``) that is due at every aggregation, and ranges that
do not change (fvaddr, paddr). Quotas may cut regions, and several schemes may act.
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


def ages_after_passes(
    recorded: Sequence[WatchedPass], ctx: DamonCtx, level: str, *, idle: bool = False
) -> list[Check]:
    """Make all checks of this module that apply to the request: I21, I24, I29, I31, I35, merging back (7.2).

    ``idle``: no memory is touched, so that merging back must be shown.
    """
    checks = [aggregations_in_step(recorded, ctx), regions_and_ages(recorded, ctx, level)]
    if Series.of(level).merges_quota_splits_back:
        checks += merged_back(recorded, ctx, idle=idle)
    return checks


def aggregations_in_step(recorded: Sequence[WatchedPass], ctx: DamonCtx) -> Check:
    """Check I35: apply and aggregation intervals count the same samples.

    Exact. Raises UsageError for a watcher that is not due at every aggregation.
    """
    every = _passes_per_aggregation(ctx)
    wrong = [
        watched.number for watched in recorded if bool(watched.aggregated) != (watched.number % every == 0)
    ]
    m = Measurement("passes out of step with aggregations", len(wrong), "count")
    detail = f"pass {wrong[0]}" if wrong else ""
    return no_difference(m, recorded, f"there is an aggregation every {every} passes", detail, "I35")


def _passes_per_aggregation(ctx: DamonCtx) -> int:
    step = max(1, interval_samples(ctx.schemes[0], ctx.attrs))
    if ctx.attrs.samples_per_aggr % step:
        raise UsageError(f"the first scheme, due every {step} samples, is not due at every aggregation")
    return ctx.attrs.samples_per_aggr // step


def left_by(watched: WatchedPass, ctx: DamonCtx) -> list[Try]:
    """Return the regions after a pass, before DAMON merges equal neighbours: of age 0 where a scheme acted.

    The rest of a region that a quota cut is visited again, so later visits overlap earlier ones.
    """
    left: list[Try] = []
    for visit, following in pairwise([*watched.visits, None]):
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
    """Check I31: an action resets a region's age, whatever it achieved, and ``stat`` does not. Exact.

    Also I21: schemes see at an aggregation the count that is then traced; I24: a split copies the age; I29:
    an aggregation adds at most one.
    """
    series = Series.of(level)
    wrong, detail = [], ""
    for watched, following in pairwise([*recorded, None]):
        assert watched is not None
        extra = rule_limits.extra_age(ctx, series, len(watched.visits))
        differences = _differences(watched, following, ctx, extra)
        wrong.append(float(len(differences)))
        if differences and not detail:
            detail = f"pass {watched.number}: {differences[0]}"
    m = Measurement("regions that differ from what the pass left", sum(wrong), "regions", tuple(wrong))
    return no_difference(m, recorded, "only an action resets an age", detail, "I21, I24, I29, I31")


def _differences(watched: WatchedPass, following: WatchedPass | None, ctx: DamonCtx, extra: int) -> list[str]:
    left = left_by(watched, ctx)
    if watched.aggregated:
        traced = [Try(0, e.target_id, e.start, e.end, e.nr_accesses, e.age) for e in watched.aggregated]
        reasons = [f"aggregated: {text}" for text in not_made_of(traced, left, counts=True)]
        if following and not following.aggregated:
            reasons += [f"split: {text}" for text in not_cut_from(_regions(following), traced)]
        return reasons
    if following is None:
        return []
    if following.aggregated:
        return _too_old(_regions(following), left, 1 + extra)
    return [f"next: {text}" for text in not_made_of(_regions(following), left, counts=False)]


def _regions(watched: WatchedPass) -> list[Try]:
    """Return the regions at the beginning of a pass, without the rests that quotas cut off in it."""
    regions: list[Try] = []
    for visit in watched.visits:
        region = visit.region
        if not regions or regions[-1].target_idx != region.target_idx or region.start >= regions[-1].end:
            regions.append(region)
    return regions


def not_made_of(wholes: Iterable[Try], parts: Sequence[Try], *, counts: bool) -> list[str]:
    """Return the regions that are not unions of whole ``parts`` of the same age.

    ``counts``: of the same nr_accesses, too.
    """
    reasons, at = [], 0
    for whole in wholes:
        pieces = []
        while at < len(parts) and _inside(parts[at], whole):
            pieces.append(parts[at])
            at += 1
        exact = pieces and pieces[0].start == whole.start and pieces[-1].end == whole.end
        same = all(p.age == whole.age and (not counts or p.nr_accesses == whole.nr_accesses) for p in pieces)
        if not exact or not same:
            reasons.append(f"{spell(whole)} of {', '.join(map(spell, pieces[:4])) or 'nothing'}")
    if at < len(parts):
        reasons.append(f"{spell(parts[at])} is gone")
    return reasons


def not_cut_from(parts: Iterable[Try], wholes: Sequence[Try]) -> list[str]:
    """Return the regions that do not lie inside one of ``wholes`` of the same age."""
    reasons: list[str] = []
    at = 0
    for part in parts:
        while at < len(wholes) and not _inside(part, wholes[at]):
            at += 1
        if at == len(wholes):
            return [*reasons, f"{spell(part)} is not inside one region of before"]
        if part.age != wholes[at].age:
            reasons.append(f"{spell(part)} was cut from {spell(wholes[at])}")
    return reasons


def _too_old(regions: Iterable[Try], left: Sequence[Try], most: int) -> list[str]:
    """Return the regions more than ``most`` aggregations older than all regions that they were made of."""
    reasons, at = [], 0
    for region in regions:
        while at < len(left) and not _overlap(left[at], region):
            at += 1
        oldest, i = 0, at
        while i < len(left) and _overlap(left[i], region):
            oldest = max(oldest, left[i].age)
            i += 1
        at = max(at, i - 1)  # the last one may reach into the next region
        if region.age > oldest + most:
            reasons.append(f"{spell(region)} was {oldest} at most")
    return reasons


def _inside(part: Try, whole: Try) -> bool:
    return part.target_idx == whole.target_idx and whole.start <= part.start and part.end <= whole.end


def _overlap(a: Try, b: Try) -> bool:
    return a.target_idx == b.target_idx and a.start < b.end and b.start < a.end


# --- merging back ------------------------------------------------------------------------------


def merged_back(recorded: Sequence[WatchedPass], ctx: DamonCtx, *, idle: bool = False) -> list[Check]:
    """Check that a pass leaves no equal neighbours apart that may merge (§4.2). Exact, since 7.2.

    Judged only while nr_accesses are 0 everywhere, also in the last window: then the age alone decides.
    Without such a pass there is no check; of ``idle`` memory it is undecided.
    """
    total = sum(region.end - region.start for region in left_by(recorded[0], ctx)) if recorded else 0
    limit = max(total // ctx.attrs.min_nr_regions, rule_limits.min_region_sz(ctx))
    wrong, detail, silent, judged_pairs = [], "", False, 0
    for watched, following in pairwise([*recorded, None]):
        assert watched is not None
        if silent and not any(visit.region.nr_accesses for visit in watched.visits):
            pairs = _equal_neighbours(_after(watched, following))
            apart = [(a, b) for a, b in pairs if b.end - a.start <= limit]
            judged_pairs += len(pairs)
            wrong.append(float(len(apart)))
            if apart and not detail:
                detail = f"pass {watched.number} left {spell(apart[0][0])} and {spell(apart[0][1])}"
        if watched.aggregated:
            silent = not any(event.nr_accesses for event in watched.aggregated)
    if not wrong and not idle:
        return []
    m = Measurement("equal neighbours left apart", sum(wrong), "pairs", tuple(wrong))
    why = f"equal neighbours are merged up to {limit} (§4.2); {judged_pairs} pairs judged"
    return [Check("invariant", m, "== 0", why, not detail if wrong else None, detail)]


def _after(watched: WatchedPass, following: WatchedPass | None) -> list[Try]:
    """Return the regions as traced next, before an aggregation merges or splits them."""
    if watched.aggregated:
        return [Try(0, e.target_id, e.start, e.end, e.nr_accesses, e.age) for e in watched.aggregated]
    if following is None or following.aggregated:
        return []
    return _regions(following)


def _equal_neighbours(regions: Sequence[Try]) -> list[tuple[Try, Try]]:
    return [
        (a, b)
        for a, b in pairwise(regions)
        if a.target_idx == b.target_idx and a.end == b.start and a.age == b.age
    ]

# SPDX-License-Identifier: GPL-2.0
"""Recompute the priorities by which a quota selects memory from the reported regions (specification 4.3).

The rules are written from the specification and share no code with the reference, so that an error in one of
them shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from damon_tests.damon.params import U32_MAX, DamonCtx, Damos, DamosAccessPattern
from damon_tests.damon.series import Series
from damon_tests.judge.schemes.quota_passes import Piece, Place
from damon_tests.judge.verdict import Check, Measurement

HIGHEST = 99
Span = tuple[Place, Place]
"""[start, end) of memory of one target; each Place has the target's index."""

_SCORED: dict[tuple[str, str], Literal["hot", "cold"]] = {
    ("paddr", "pageout"): "cold",
    ("paddr", "lru_deprio"): "cold",
    ("paddr", "migrate_cold"): "cold",
    ("paddr", "lru_prio"): "hot",
    ("paddr", "migrate_hot"): "hot",
    ("vaddr", "pageout"): "cold",
    ("vaddr", "migrate_cold"): "cold",
    ("vaddr", "migrate_hot"): "hot",
}
_MIGRATIONS = ("migrate_cold", "migrate_hot")  # of virtual address spaces


def hot_score(
    nr_accesses: int, samples_per_aggr: int, age: int, aggr_us: int, weight_nr: int, weight_age: int
) -> int:
    """Return the hotness, 0 to 99. DAMON ignores the weight of the size."""
    frequency = nr_accesses * 100 // max(samples_per_aggr, 1)
    seconds = (age * aggr_us // 1_000_000) & U32_MAX
    doublings = min(seconds.bit_length(), 32)
    if frequency == 0:
        doublings = -doublings
    aged = (doublings + 32) * 100 // 32 // 2
    total = weight_nr * frequency + weight_age * aged
    if weight_nr + weight_age:
        total //= weight_nr + weight_age
    return min(max(total * HIGHEST // 100, 0), HIGHEST)


def direction(scheme: Damos, operations: str, level: Series) -> Literal["hot", "cold"] | None:
    """Return whether the action prefers hot or cold memory; None: neither."""
    kind = "paddr" if operations == "paddr" else "vaddr"
    if kind == "vaddr" and scheme.action in _MIGRATIONS and not level.migrates_in_vaddr:
        return None
    return _SCORED.get((kind, scheme.action))


def score(piece: Piece, scheme: Damos, ctx: DamonCtx, level: Series) -> int:
    """Return the piece's priority, 0 to 99; higher priorities get quota first."""
    prefers = direction(scheme, ctx.operations, level)
    if prefers is None:
        return HIGHEST
    attrs, quota = ctx.attrs, scheme.quota
    hot = hot_score(
        piece.nr_accesses,
        attrs.samples_per_aggr,
        piece.age,
        attrs.aggr_us,
        quota.weight_nr_accesses_permil,
        quota.weight_age_permil,
    )
    return hot if prefers == "hot" else HIGHEST - hot


def matches(piece: Piece, pattern: DamosAccessPattern) -> bool:
    """Return whether nr_accesses and age match the pattern.

    The size is not compared: the regions at the time of the pass are not known, so the pattern must match any
    size.
    """
    nr = (pattern.nr_accesses_min & U32_MAX, pattern.nr_accesses_max & U32_MAX)
    age = (pattern.age_min & U32_MAX, pattern.age_max & U32_MAX)
    return nr[0] <= piece.nr_accesses <= nr[1] and age[0] <= piece.age <= age[1]


def lowest_chosen(scored: Iterable[tuple[int, int]], effective_size: int) -> int:
    """Return min_score of (score, size) pairs: the score at which the quota is used up."""
    by_score: dict[int, int] = {}
    for value, size in scored:
        by_score[value] = by_score.get(value, 0) + size
    total = 0
    for value in sorted(by_score, reverse=True):
        total += by_score[value]
        if total >= effective_size:
            return value
    return 0


def eligible(
    pieces: Sequence[Piece], scheme: Damos, ctx: DamonCtx, level: Series, effective_size: int
) -> list[Span]:
    """Return the spans of memory that match and get quota: ascending, joined where they touch."""
    wanted = [(p, score(p, scheme, ctx, level)) for p in pieces if matches(p, scheme.access_pattern)]
    lowest = lowest_chosen(((value, p.size) for p, value in wanted), effective_size)
    joined: list[Span] = []
    for p, value in wanted:
        if value < lowest:
            continue
        start, end = (p.target_idx, p.start), (p.target_idx, p.end)
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def selective(
    pieces_of_passes: Sequence[Sequence[Piece]], scheme: Damos, ctx: DamonCtx, level: Series, size: int
) -> Check:
    """Check that priorities excluded memory in at least one pass; else the result is undecided."""
    left_out = []
    for pieces in pieces_of_passes:
        matching = sum(p.size for p in pieces if matches(p, scheme.access_pattern))
        chosen = sum(end[1] - start[1] for start, end in eligible(pieces, scheme, ctx, level, size))
        left_out.append(float(matching - chosen))
    m = Measurement("bytes without the priority to be tried", max(left_out, default=0.0), "bytes")
    why = "the check needs memory that priorities exclude"
    return Check("invariant", m, ">= 1", why, True if m.value >= 1 else None)

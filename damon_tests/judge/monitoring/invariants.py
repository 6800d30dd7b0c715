# SPDX-License-Identifier: GPL-2.0
"""Check the invariants of a recording: what every correct DAMON keeps, whatever the workload.

The names (I1 ...) are those of section 9 of the project's DAMON specification. Bounds are those of DAMON's
own rules, by level. Each function returns checks, or none where the invariant does not apply to the request.
Not here, because aggregations do not show them: I5 (beyond I4), I21-I24. All checks but I34 are exact.

The request must not change during the recording: cut it at an online commit. Incomplete snapshots (lost
events) are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from damon_tests.damon.records import Recording, Snapshot, TriedRegions
from damon_tests.judge import rule_limits
from damon_tests.judge.monitoring.aggregation_windows import windows
from damon_tests.judge.monitoring.report import (
    Report,
    largest,
    nothing_judged,
    region,
    regions,
    spell,
    where,
)
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import NSEC_PER_SEC, NSEC_PER_USEC, Bools
from damon_tests.ports.numbers import number
from damon_tests.ports.ranges import Range

# trace prints times in whole microseconds
_TRACE_RESOLUTION_NS = NSEC_PER_USEC

_PATIENCE_WINDOWS = 10
"""Aggregation intervals without an aggregation, after which DAMON counts as silent."""

_BY_TICKS_US = 16_000
"""Four ticks of 4 ms: DAMON counts sampling sleeps from this length on in ticks (specification 2.11)."""


def recorded(recording: Recording) -> Check:
    """Check that there is a complete snapshot (I34).

    Without one it is undecided; a DAMON without an aggregation for ten intervals fails.
    """
    n = sum(s.complete for s in recording.snapshots)
    m = Measurement("complete snapshots", n, "count")
    if never_aggregated(recording):
        asked_ms, seconds = (
            recording.aggr_us / 1000,
            (recording.stopped_ns - recording.started_ns) / NSEC_PER_SEC,
        )
        why = f"DAMON aggregates every {number(asked_ms)} ms, and did not within {seconds:.1f} s (I34)"
        return Check("invariant", m, ">= 1", why, False, invariant="I34")
    why = "without a complete snapshot nothing can be judged"
    detail = "" if n else f"lost events: {recording.lost_events}, snapshots: {len(recording.snapshots)}"
    return Check("invariant", m, ">= 1", why, True if n else None, detail)


def never_aggregated(recording: Recording) -> bool:
    """Return whether no aggregation was traced, and no event lost, in the time of ten aggregations."""
    if recording.source in ("tried_regions", "none") or recording.snapshots or recording.lost_events:
        return False
    lasted_ns = recording.stopped_ns - recording.started_ns
    return lasted_ns >= _PATIENCE_WINDOWS * max(recording.aggr_us, 1) * NSEC_PER_USEC


# --- geometry --------------------------------------------------------------------------------


def geometry(s: Report) -> list[Check]:
    """Check I1 order, I2 positive size, I3 alignment."""
    checks = [
        regions(s, "I1", "overlapping or unordered regions", "regions ascend and do not overlap", _disorder),
        regions(
            s, "I2", "empty regions", "a region begins before it ends", lambda snap: snap.start >= snap.end
        ),
    ]
    if rule_limits.is_power_of_two(s.m):
        m = np.uint64(s.m)

        def unaligned(snap: Snapshot) -> Bools:
            wrong: Bools = ((snap.start % m) != 0) | ((snap.end % m) != 0)
            return wrong

        checks.append(
            regions(s, "I3", "unaligned regions", f"region bounds are multiples of {s.m}", unaligned)
        )
    return checks


def _disorder(snap: Snapshot) -> Bools:
    wrong = np.zeros(len(snap), np.bool_)
    wrong[1:] = snap.start[1:] < snap.end[:-1]
    return wrong


# --- coverage --------------------------------------------------------------------------------


def coverage(s: Report) -> list[Check]:
    """Check I4 (with I5, I18): exactly the configured ranges. I6: vaddr covers at most three ranges.

    Ranges requested for vaddr hold until its first update, whose time is known only from the kdamond's start.
    """
    if s.recording.source == "tried_regions" or not rule_limits.is_power_of_two(s.m):
        return []
    checks = []
    for target_idx, target in enumerate(s.ctx.targets):
        snaps = [x for x in s.recording.of_target(target_idx) if x.complete]
        if target.regions:
            expected = rule_limits.aligned_union(target.regions, s.m)
            if s.ctx.operations == "vaddr":
                snaps = [x for x in snaps if s.from_start and _before_update(s, x)]
                if not snaps:
                    continue  # the mappings have replaced the ranges
            checks += _covers(s, snaps, expected, "I4", "regions cover exactly the configured ranges")
        elif s.ctx.operations == "vaddr":
            checks += _few_ranges(s, snaps)
    return checks


def initial_layout(s: Report) -> list[Check]:
    """Check I6 exactly: before its first update vaddr covers the mappings without their two largest gaps.

    Also check that min_nr_regions cuts these ranges. For a single target whose mappings are known.
    """
    recording, ctx = s.recording, s.ctx
    expected = rule_limits.three_ranges([v for v in s.vmas if v[0] < 1 << 63])
    snaps = [x for x in recording.of_target(0) if x.complete and _before_update(s, x)]
    if expected is None or ctx.operations != "vaddr" or ctx.targets[0].regions or not snaps:
        return []
    why = "vaddr covers the mappings without their two largest gaps"
    checks = _covers(s, snaps, expected, "I6", why)
    if recording.lost_events or rule_limits.schemes_split(ctx) or snaps[0] is not recording.of_target(0)[0]:
        return checks
    return [*checks, _first_pieces(s, snaps[0], expected)]


def _first_pieces(s: Report, first: Snapshot, ranges: Sequence[Range]) -> Check:
    """Check the regions of the first aggregation, traced before the first random split (2.6; 8.3, 12)."""
    wanted = rule_limits.first_pieces(ranges, s.ctx.attrs.min_nr_regions, s.m, s.series)
    first_regions = list(zip(map(int, first.start), map(int, first.end), strict=True))
    wrong = sorted(set(first_regions) ^ set(wanted))
    m = Measurement("regions of the first layout cut otherwise", float(len(wrong)), "regions")
    detail = f"{len(first_regions)} regions, expected {len(wanted)}: {spell(wrong)}" if wrong else ""
    why = f"min_nr_regions {s.ctx.attrs.min_nr_regions} cuts it in equal pieces, too large to merge"
    return Check("invariant", m, "== 0", why, not wrong, detail)


def _before_update(s: Report, snap: Snapshot) -> bool:
    sample_us = s.ctx.attrs.sample_us or 1
    update_ns = s.ctx.attrs.update_us // sample_us * sample_us * NSEC_PER_USEC
    return snap.time_ns < s.recording.started_ns + update_ns


def _covers(
    s: Report, snaps: Sequence[Snapshot], expected: tuple[Range, ...], invariant: str, why: str
) -> list[Check]:
    differences, detail = [], ""
    for snap in snaps:
        ranges = rule_limits.covered(snap)
        differences.append(float(_symmetric_difference(ranges, expected) * s.recording.addr_unit))
        if differences[-1] and not detail:
            detail = f"{where(s.recording, snap)}: covers {spell(ranges)}, expected {spell(expected)}"
    return largest(invariant, "uncovered or extra bytes", differences, "bytes", 0, why=why, detail=detail)


def _few_ranges(s: Report, snaps: Sequence[Snapshot]) -> list[Check]:
    separate, detail = [], ""
    for snap in snaps:
        ranges = rule_limits.covered(snap)
        separate.append(float(len(ranges)))
        if len(ranges) > 3 and not detail:
            detail = f"{where(s.recording, snap)}: {spell(ranges)}"
    why = "vaddr leaves out only the two largest gaps"
    return largest("I6", "separate ranges", separate, "ranges", 3, why=why, detail=detail)


def _symmetric_difference(a: Sequence[Range], b: Sequence[Range]) -> int:
    common = sum(max(0, min(x[1], y[1]) - max(x[0], y[0])) for x in a for y in b)
    return sum(e - s for s, e in a) + sum(e - s for s, e in b) - 2 * common


# --- counters --------------------------------------------------------------------------------


def counters(s: Report) -> list[Check]:
    """Check I19/I20 nr_accesses <= W, I26 silent in weights mode, I27 and I28 probe hits."""
    tried = s.recording.source == "tried_regions"
    slack = 1 if tried and not s.series.computes_moving_values_exactly else 0
    checks = _largest_nr(s, "I20" if tried else "I19", "largest nr_accesses", s.w + slack)
    if any(p.weight for p in s.ctx.attrs.probes):
        checks += _largest_nr(s, "I26", "largest nr_accesses with weighted probes", 0)
    with_hits = [x for x in s.recording.snapshots if x.complete and x.probe_hits is not None]
    if with_hits and s.w <= 255 and not tried:
        checks += _probe_hits(s, with_hits)
    return checks


def _largest_nr(s: Report, invariant: str, name: str, bound: int) -> list[Check]:
    snaps = [x for x in s.recording.snapshots if x.complete]
    highest = [float(x.nr_accesses.max(initial=0)) for x in snaps]
    detail = ""
    for snap in snaps:
        bad = np.flatnonzero(snap.nr_accesses > bound)
        if len(bad):
            detail = f"{where(s.recording, snap)}: {region(snap, int(bad[0]))}"
            break
    return largest(
        invariant, name, highest, "samples", bound, why=f"a window has W = {s.w} samples", detail=detail
    )


def _probe_hits(s: Report, snaps: Sequence[Snapshot]) -> list[Check]:
    hits = [x.probe_hits for x in snaps if x.probe_hits is not None]
    highest = [float(h.max(initial=0)) for h in hits]
    checks = largest(
        "I27", "largest probe hits", highest, "samples", s.w, why=f"a window has W = {s.w} samples"
    )
    for i, probe in enumerate(s.ctx.attrs.probes):
        if not probe.filters and all(h.shape[1] > i for h in hits):
            missing = [float(s.w - int(h[:, i].min(initial=s.w))) for h in hits]
            why = "a probe without filters hits every sample"
            checks += largest("I28", f"samples missed by probe {i}", missing, "samples", 0, why=why)
    return checks


# --- timing ----------------------------------------------------------------------------------


def timing(s: Report) -> list[Check]:
    """Check I34: aggregations are at least W sampling intervals apart.

    The kernel counts sleeps of four ticks or more in ticks. That clock may lag when a window begins, because
    the CPU that advances it did not run (2.11). Such a window looks shorter by what the one before was
    longer, so the two together are still long enough.
    """
    sample_us = s.ctx.attrs.intervals_goal.min_sample_us if s.tuned else s.recording.sample_us
    least_ns = s.w * max(1, sample_us) * NSEC_PER_USEC
    gaps, detail = [], ""
    for target_idx in s.targets():
        chosen = windows(s.recording, target_idx)
        for a, b in pairwise(chosen):
            if b.index == a.index + 1:
                gaps.append(b.duration_ns / NSEC_PER_USEC)
                missing_ns = least_ns - _TRACE_RESOLUTION_NS - b.duration_ns
                lagged_ns = a.duration_ns - least_ns if sample_us >= _BY_TICKS_US else 0
                if missing_ns > max(0, lagged_ns) and not detail:
                    detail = f"{where(s.recording, b.snapshot)}: {number(gaps[-1])} µs after the one before"
    why = "an aggregation has W sampling intervals, and the kdamond sleeps each in full"
    if not gaps:
        return [nothing_judged("invariant", "I34", "shortest aggregation", "µs", why)]
    m = Measurement("shortest aggregation", min(gaps), "µs", tuple(gaps))
    limit = f">= {number(least_ns / NSEC_PER_USEC)}"
    limit += ", with the one before twice that" if sample_us >= _BY_TICKS_US else ""
    return [Check("invariant", m, limit, why, not detail, detail, invariant="I34")]


# --- tried regions ---------------------------------------------------------------------------


def tried_regions(tried: TriedRegions) -> list[Check]:
    """Check I7: total_bytes is the sum of the sizes of the region directories of the same update."""
    if tried.total_bytes is None:
        return []
    total = int(tried.regions.sizes.sum())
    m = Measurement("total_bytes", tried.total_bytes, "address units")
    return [
        Check(
            "invariant",
            m,
            f"== {number(total)}",
            "total_bytes is the sum of the sizes of the tried regions",
            tried.total_bytes == total,
            invariant="I7",
        )
    ]

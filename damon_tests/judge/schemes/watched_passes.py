# SPDX-License-Identifier: GPL-2.0
"""Check what schemes tried, event for event.

The first scheme of a request is the *watcher*: ``stat`` on everything, without quota or filter, due whenever
any other is. A pass tries the schemes in order on each region (specification 4.2), so the watcher's
damos_before_apply prints the region just before the other schemes. The events that must follow are certain:
one for each scheme that is due and whose pattern matches, in order, each after the effects of the earlier
ones.

The events of a run are damos_before_apply and, where recorded, damon_aggregated and
damos_stat_after_apply_interval, from the kdamond's start and in the order in which they happened.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from damon_tests.damon import trace
from damon_tests.damon.params import ANY, U32_MAX, DamonAttrs, DamonCtx, Damos, DamosAccessPattern, DamosQuota
from damon_tests.damon.trace import AggregatedEvent, BeforeApplyEvent, LostEvent, StatEvent, TypedEvent
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import UsageError

EXTRA_EVENTS = (trace.BEFORE_APPLY, trace.STAT_AFTER_APPLY)
"""The tracepoints that a run must record besides damon_aggregated, as far as the DAMON has them."""


class Try(NamedTuple):
    """One scheme tried on one region, as damos_before_apply prints it."""

    scheme_idx: int
    target_idx: int
    start: int
    end: int
    nr_accesses: int
    age: int


@dataclass(frozen=True)
class Visit:
    """A region as the watcher printed it, and what the other schemes then tried, in order."""

    region: Try
    nr_regions: int
    tried: tuple[Try, ...]


@dataclass(frozen=True)
class WatchedPass:
    """One pass of the watcher. ``number`` counts from 1, ``time_ns`` is the time of its first event.

    ``stats`` and ``aggregated`` are the events between it and the next pass.
    """

    number: int
    time_ns: int
    visits: tuple[Visit, ...]
    stats: tuple[StatEvent, ...] = ()
    aggregated: tuple[AggregatedEvent, ...] = ()

    @property
    def tries(self) -> tuple[Try, ...]:
        """Return all tries of the pass in order, the watcher's included."""
        return tuple(t for visit in self.visits for t in (visit.region, *visit.tried))


@dataclass
class _Open:
    """A pass whose events are still being read."""

    time_ns: int
    visits: list[tuple[Try, int, list[Try]]] = field(default_factory=list)
    stats: list[StatEvent] = field(default_factory=list)
    aggregated: list[AggregatedEvent] = field(default_factory=list)

    def ends_before(self, region: Try) -> bool:
        """Return whether ``region`` begins the next pass: within a pass targets and addresses ascend."""
        last = self.visits[-1][0]
        done = bool(self.stats or self.aggregated)
        return done or (region.target_idx, region.start) <= (last.target_idx, last.start)

    def closed(self, number: int) -> WatchedPass:
        visits = tuple(Visit(region, count, tuple(tried)) for region, count, tried in self.visits)
        return WatchedPass(number, self.time_ns, visits, tuple(self.stats), tuple(self.aggregated))


def passes(events: Sequence[TypedEvent]) -> tuple[WatchedPass, ...]:
    """Return the passes before the first lost event, without the last one, which may be cut off."""
    complete: list[WatchedPass] = []
    now: _Open | None = None
    for event in events:
        if isinstance(event, LostEvent):
            break
        if isinstance(event, StatEvent | AggregatedEvent):
            if now is not None:
                (now.stats if isinstance(event, StatEvent) else now.aggregated).append(event)  # type: ignore[arg-type]
        elif isinstance(event, BeforeApplyEvent):
            tried = _try_of(event)
            if tried.scheme_idx == 0:
                if now is None or now.ends_before(tried):
                    if now is not None:
                        complete.append(now.closed(len(complete) + 1))
                    now = _Open(event.time_ns)
                now.visits.append((tried, event.nr_regions, []))
            elif now is not None:
                now.visits[-1][2].append(tried)
    return tuple(complete)


def _try_of(event: BeforeApplyEvent) -> Try:
    return Try(event.scheme_idx, event.target_idx, event.start, event.end, event.nr_accesses, event.age)


# --- what must happen --------------------------------------------------------------------------


def bounds_of(pattern: DamosAccessPattern) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Return (min, max) of size, nr_accesses and age as the core stores them: the last two in 32 bits."""
    return (
        (pattern.sz_min, pattern.sz_max),
        (pattern.nr_accesses_min & U32_MAX, pattern.nr_accesses_max & U32_MAX),
        (pattern.age_min & U32_MAX, pattern.age_max & U32_MAX),
    )


def matches(pattern: DamosAccessPattern, size: int, nr_accesses: int, age: int) -> bool:
    """Return whether the pattern matches such a region: all six bounds are inclusive (specification 4.3)."""
    values = (size, nr_accesses, age)
    return all(low <= v <= high for (low, high), v in zip(bounds_of(pattern), values, strict=True))


def interval_samples(scheme: Damos, attrs: DamonAttrs) -> int:
    """Return the samples from one pass of a scheme to its next; 0: every sample (specification 2.1)."""
    return (scheme.apply_interval_us or attrs.aggr_us) // (attrs.sample_us or 1)


def due_in(schemes: Sequence[Damos], attrs: DamonAttrs) -> Iterator[tuple[int, ...]]:
    """Yield the indexes of the schemes due in each pass of the watcher, the watcher's included."""
    step = max(1, interval_samples(schemes[0], attrs))
    periods = [interval_samples(scheme, attrs) for scheme in schemes]
    next_apply, sample = list(periods), 0
    while True:
        sample += step
        due = tuple(i for i, when in enumerate(next_apply) if sample >= when)
        for i in due:
            next_apply[i] = sample + periods[i]
        yield due


class ExpectedTries:
    """Predicts what each pass must try from the watcher's regions. Feed it the passes in order."""

    def __init__(self, ctx: DamonCtx) -> None:
        _refuse_unpredictable(ctx)
        self.schemes = ctx.schemes
        self.nr_snapshots = [0] * len(ctx.schemes)
        self._due = due_in(ctx.schemes, ctx.attrs)

    def expected(self, observed: WatchedPass) -> tuple[tuple[int, ...], list[tuple[Try, ...]]]:
        """Return the schemes due in a pass, and the expected tries of the other schemes for each visit."""
        due = next(self._due)
        return due, [
            self._visit(due, visit.region, last)
            for visit, last in zip(observed.visits, _last_of_target(observed.visits), strict=True)
        ]

    def _visit(self, due: Sequence[int], region: Try, last: bool) -> tuple[Try, ...]:
        tried: list[Try] = []
        for i in due:
            scheme = self.schemes[i]
            if scheme.max_nr_snapshots and self.nr_snapshots[i] >= scheme.max_nr_snapshots:
                continue
            if matches(scheme.access_pattern, region.end - region.start, region.nr_accesses, region.age):
                tried.append(region._replace(scheme_idx=i))
                if scheme.action != "stat":
                    region = region._replace(age=0)
            self.nr_snapshots[i] += last
        return tuple(tried[1:])  # the first is the watcher


def _last_of_target(visits: Sequence[Visit]) -> list[bool]:
    targets = [visit.region.target_idx for visit in visits]
    return [a != b for a, b in zip(targets, [*targets[1:], None], strict=True)]


def _refuse_unpredictable(ctx: DamonCtx) -> None:
    watcher = ctx.schemes[0] if ctx.schemes else Damos()
    if watcher.action != "stat" or watcher.access_pattern != ANY or watcher.max_nr_snapshots:
        raise UsageError(
            "the first scheme must be stat on everything: it traces the regions that the others get"
        )
    periods = [max(1, interval_samples(scheme, ctx.attrs)) for scheme in ctx.schemes]
    if any(period % periods[0] for period in periods):
        raise UsageError(f"the first scheme is not due whenever another is: every {periods} samples")
    for i, scheme in enumerate(ctx.schemes):
        filters = scheme.core_filters or scheme.ops_filters or scheme.filters
        if scheme.quota != DamosQuota() or filters or scheme.watermarks.metric != "none":
            raise UsageError(
                f"scheme {i} has a quota, filters or watermarks: these do not follow from patterns"
            )


# --- judging -----------------------------------------------------------------------------------


def tried_as_asked(recorded: Sequence[WatchedPass], ctx: DamonCtx) -> list[Check]:
    """Check I51: every pass tries exactly the due schemes, on exactly the regions they match, in order.

    ``recorded``: from the start of a request that did not change, of schemes without quotas, filters and
    watermarks. Raises UsageError for another request.
    """
    replay, wrong, tries, detail = ExpectedTries(ctx), [], 0, ""
    for observed in recorded:
        due, expected = replay.expected(observed)
        differences = _differences(observed, expected) + _wrong_stats(observed, due, replay.nr_snapshots)
        tries += len(observed.tries)
        wrong.append(float(len(differences)))
        if differences and not detail:
            detail = f"pass {observed.number}: {differences[0]}"
    m = Measurement("tries that differ from what was asked", sum(wrong), "count", tuple(wrong))
    why = f"due schemes try what matches, in order (§4.2, §4.3); {tries} tries in {len(recorded)} passes"
    return [no_difference(m, recorded, why, detail, invariant="I51")]


def _differences(observed: WatchedPass, expected: Sequence[tuple[Try, ...]]) -> list[str]:
    differences = []
    counts: dict[int, int] = {}
    for visit in observed.visits:
        counts[visit.region.target_idx] = counts.get(visit.region.target_idx, 0) + 1
    for visit, wanted in zip(observed.visits, expected, strict=True):
        count = counts.pop(visit.region.target_idx, None)  # later merges make it smaller
        if count is not None and count != visit.nr_regions:
            differences.append(f"nr_regions={visit.nr_regions} of {count} regions")
        if visit.tried != wanted:
            differences.append(
                f"{spell(visit.region)}: tried {_spell_all(visit.tried)}, expected {_spell_all(wanted)}"
            )
    return differences


def _wrong_stats(observed: WatchedPass, due: Sequence[int], nr_snapshots: Sequence[int]) -> list[str]:
    """Return what is wrong with a pass's damos_stat_after_apply_interval events (7.0).

    There is one for each due scheme, in order, with its nr_snapshots.
    """
    traced = tuple(event.scheme_idx for event in observed.stats)
    if traced and traced != tuple(due):
        return [f"statistics of schemes {traced}, due were {tuple(due)}"]
    snapshots = [(e.scheme_idx, e.nr_snapshots, nr_snapshots[e.scheme_idx]) for e in observed.stats]
    return [
        f"scheme {i}: nr_snapshots={traced_nr}, expected {want}"
        for i, traced_nr, want in snapshots
        if traced_nr != want
    ]


def spell(tried: Try) -> str:
    """Return a region as the trace prints it."""
    return f"{tried.start}-{tried.end}: {tried.nr_accesses} {tried.age}"


def _spell_all(tries: Sequence[Try]) -> str:
    return ", ".join(f"{t.scheme_idx} on {spell(t)}" for t in tries) or "none"


def no_difference(
    m: Measurement, recorded: Sequence[WatchedPass], why: str, detail: str, invariant: str = ""
) -> Check:
    """Check that the measurement is 0; undecided where no pass was recorded."""
    if not recorded:
        detail = "no pass of the schemes was recorded"
        return Check("invariant", m, "== 0", why, None, detail, invariant=invariant)
    return Check("invariant", m, "== 0", why, m.value == 0, detail, invariant=invariant)


def edges_met(
    recorded: Sequence[WatchedPass],
    schemes: Sequence[Damos],
    names: Sequence[str] = ("size", "nr_accesses", "age"),
) -> list[Check]:
    """Check that the regions tested the bounds of ``names``: some at a bound, and some just beyond.

    Undecided where there are none.
    """
    at, beyond = [0, 0, 0], [0, 0, 0]
    for observed in recorded:
        for visit in observed.visits:
            r = visit.region
            for scheme in schemes[1:]:
                bounds = bounds_of(scheme.access_pattern)
                for i, ((low, high), value) in enumerate(
                    zip(bounds, (r.end - r.start, r.nr_accesses, r.age), strict=True)
                ):
                    at[i] += low <= high and value in (low, high)
                    beyond[i] += value in (low - 1, high + 1)
    checks = []
    for i, name in enumerate(("size", "nr_accesses", "age")):
        if name not in names:
            continue
        for what, count in (("at", at[i]), ("just beyond", beyond[i])):
            m = Measurement(f"regions {what} a bound of {name}", count, "count")
            checks.append(
                Check(
                    "invariant",
                    m,
                    ">= 1",
                    "the check needs regions at and beyond the bounds",
                    True if count else None,
                )
            )
    return checks

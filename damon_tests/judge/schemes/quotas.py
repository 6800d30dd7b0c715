# SPDX-License-Identifier: GPL-2.0
"""Quotas, replayed: what each pass may try follows from the passes before it (specification 4.3 to 4.7).

The replay goes from pass to pass with the charge of the window and the point where the next window continues,
and holds each application against them. How memory was divided into regions does not matter: the next
region tried must begin at the first byte that is eligible, and a pass only ends with the quota or the memory.
When a window begins is known but for the kernel's clock ticks; where that leaves a doubt both are
followed, until the tries decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise, product
from statistics import median

from damon_tests.damon.params import DamonCtx, Damos
from damon_tests.damon.records import DamosStats
from damon_tests.damon.series import Series
from damon_tests.damon.trace import BeforeApplyEvent
from damon_tests.judge import rule_limits
from damon_tests.judge.schemes import priorities
from damon_tests.judge.schemes.priorities import Span
from damon_tests.judge.schemes.quota_passes import Pass, Place
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_USEC
from damon_tests.ports.ranges import Range, joined

TICKS_NS = 100 * NSEC_PER_MSEC
"""How late or early a window may seem to begin: it is counted in ticks of up to 10 ms, which a busy emulated
machine delivers late, and seen through the first event of a pass."""

TICK_NS = 10 * NSEC_PER_MSEC
"""Of the slowest clock that a kernel is built with."""

ANYWHERE: Place = (-1, -1)
"""The point to continue at is not known yet: the first application shows it."""


def is_full(level: Series, quota_is_set: bool, charged: int, size: int, m: int) -> bool:
    """Return whether nothing more may be tried in this window (4.5)."""
    if level.is_full_below_min_region:
        return quota_is_set and (charged >= size or size - charged < m)
    if level.limits_by_zero_quota:
        return quota_is_set and charged >= size
    return size != 0 and charged >= size


def room(level: Series, quota_is_set: bool, charged: int, size: int, m: int) -> int | None:
    """Return how large the next region may be, after the cut; None: any size."""
    if not quota_is_set or (size == 0 and not level.limits_by_zero_quota):
        return None
    return max(size - charged, 0) // m * m


def charge(scheme: Damos, size: int, applied: int) -> int:
    """Return what a region costs: less for what failed, if so requested (4.7)."""
    num, denom = scheme.quota.fail_charge_num, scheme.quota.fail_charge_denom
    if not denom or applied > size:
        return size
    return applied + (size - applied) * num // denom


@dataclass(frozen=True)
class State:
    """``charged``: of the running window, which began at ``began_ns`` (None: none yet). ``cursor``: where the
    last exhausted window ended, None: from the start. ``qt_exceeds``: windows that ended full.
    ``size``: the effective size, which a window keeps whatever is committed meanwhile. ``late_ns``: how long
    after the end of the last window's reset interval the running one began (None: there was none)."""

    charged: int = 0
    began_ns: int | None = None
    cursor: Place | None = None
    qt_exceeds: int = 0
    size: int = 0
    late_ns: int | None = None


@dataclass
class Replayed:
    """``states``: what may be the case after each pass; shorter than the passes if one was wrong."""

    wrong: list[str] = field(default_factory=list)
    states: list[frozenset[State]] = field(default_factory=list)


class WrongPassError(Exception):
    """What a pass did does not follow from the state before it."""


@dataclass(frozen=True)
class QuotaReplay:
    """``scheme`` of ``ctx`` must take regions of any size; its actions succeed on ``applied_share`` of the
    bytes (0 or 1). ``sizes``: the effective size in force at each pass; None: always the requested one.
    ``later``: schemes that were committed online, (begin_ns, end_ns, scheme); a pass during a commit
    may have had either.

    Some series have defects that tests of their own show. Unless ``strict`` they are let pass, so
    that the rest can be judged there, too: 6.12 sets no quota in its first window of a reset interval,
    and before 7.2 a window may skip one minimum region where the last one stopped.
    """

    scheme: Damos
    ctx: DamonCtx
    level: Series
    sizes: Sequence[int] | None = None
    applied_share: int = 0
    strict: bool = False
    later: Sequence[tuple[int, int, Damos]] = ()

    @property
    def m(self) -> int:
        return rule_limits.min_region_sz(self.ctx)

    def size_at(self, index: int) -> int:
        return self.scheme.quota.bytes if self.sizes is None else self.sizes[index]

    def is_set(self, size: int) -> bool:
        quota = self.scheme.quota
        return bool(size or quota.bytes or quota.ms or quota.goals)

    def full(self, charged: int, size: int) -> bool:
        return is_full(self.level, self.is_set(size), charged, size, self.m)

    def run(self, passes: Sequence[Pass], first: State | None = None) -> Replayed:
        """Follow the passes from ``first`` (None: just started); stops at the first that is wrong."""
        states, done = frozenset({first or State()}), Replayed()
        for index, one in enumerate(passes):
            after, reasons = set(states) if self._may_be_left_out(one) else set(), []
            for state, replay in product(states, self._in_force(one)):
                for begun in replay._windows(state, one, index):
                    for at in replay._starts(begun.cursor, one):
                        try:
                            after.add(replay._pass(begun, one, at))
                        except WrongPassError as wrong:
                            reasons.append(str(wrong))
            if not after:
                done.wrong.append(f"pass {index}: {'; or '.join(dict.fromkeys(reasons))}")
                return done
            states = frozenset(after)
            done.states.append(states)
        return done

    def _may_be_left_out(self, one: Pass) -> bool:
        """Return whether there may be no pass: before 6.18 a commit starts the apply interval again."""
        if self.level.keeps_window_on_equal_commit or one.applied:
            return False
        last_ns = self.ctx.attrs.aggr_us * NSEC_PER_USEC
        return any(begin <= one.end_ns and one.begin_ns <= end + last_ns for begin, end, _ in self.later)

    def _in_force(self, one: Pass) -> list[QuotaReplay]:
        """Return this replay with each scheme that the pass may have had."""
        possible = [self.scheme]
        for begin, end, scheme in self.later:
            if one.end_ns > end:
                possible = [scheme]
            elif one.end_ns > begin:
                possible.append(scheme)
        return [replace(self, scheme=scheme, later=()) for scheme in possible]

    def _windows(self, state: State, one: Pass, index: int) -> list[State]:
        """Return the states in which the pass may have begun to apply: in the old window, in a new one."""
        size, reset_ns = self.size_at(index), self.scheme.quota.reset_interval_ms * NSEC_PER_MSEC
        if not self.is_set(size):
            return [state]
        if state.began_ns is None:
            state = replace(state, began_ns=one.begin_ns, size=size)
            if reset_ns:
                defect = not self.strict and not self.level.replays_first_window
                return [state, replace(state, size=0)] if defect else [state]
        assert state.began_ns is not None
        fresh = replace(
            state,
            charged=0,
            began_ns=one.begin_ns,
            qt_exceeds=state.qt_exceeds + self.full(state.charged, state.size),
            size=size,
        )
        if not reset_ns:
            return [fresh]
        late = one.begin_ns - state.began_ns - reset_ns
        fresh = replace(fresh, late_ns=late)
        if late >= TICKS_NS:
            return [fresh]
        return [state] if late < -TICKS_NS else [state, fresh]

    def _starts(self, cursor: Place | None, one: Pass) -> list[Place]:
        """Return where the pass may begin."""
        if cursor is None or cursor == ANYWHERE:
            return [cursor or (0, 0)]
        mine = [r for r in one.regions if r.target_id == cursor[0]]
        if not self.level.visits_rest_of_split_region and mine and all(r.end <= cursor[1] for r in mine[:-1]):
            # The last region was skipped if nothing before it was left; 6.12.117 goes on in it, as 7.2 does.
            return [(cursor[0], mine[-1].end), cursor]
        defect = not self.strict and self.level.may_skip_page_at_continuation
        return [cursor, (cursor[0], cursor[1] + self.m)] if defect else [cursor]

    def _pass(self, state: State, one: Pass, at: Place) -> State:
        size, charged = state.size, state.charged
        if self.full(charged, size):
            if one.applied:
                raise WrongPassError(f"tried {_spell(one.applied[0])} though {charged} of {size} are charged")
            return self._counted(state, one)
        memory = priorities.eligible(one.pieces(), self.scheme, self.ctx, self.level, size)
        for event in one.applied:
            charged = self._applied(event, memory, at, charged, size)
            at = (event.target_idx, event.end)
        end = None
        if one.applied and self.full(charged, size):
            end = at
        elif room(self.level, self.is_set(size), charged, size, self.m) != 0:
            left = _next(memory, at)
            if left is not None and at != ANYWHERE:
                raise WrongPassError(f"{left[0][1]:#x} not tried though only {charged} of {size} are charged")
        return self._counted(replace(state, charged=charged, cursor=end), one)

    def _applied(
        self, event: BeforeApplyEvent, memory: Sequence[Span], at: Place, charged: int, size: int
    ) -> int:
        """Return the charge after one application. Raises WrongPassError when it must not have been made."""
        start, end = (event.target_idx, event.start), (event.target_idx, event.end)
        if self.full(charged, size):
            raise WrongPassError(f"tried {_spell(event)} though {charged} of {size} are charged")
        due = _next(memory, at) if at != ANYWHERE else _next(memory, start)
        if due is None or due[0] != start:
            where = "nothing" if due is None else f"{due[0][1]:#x} of target {due[0][0]}"
            raise WrongPassError(f"tried {_spell(event)}, expected {where}")
        if end > due[1]:
            raise WrongPassError(f"tried {_spell(event)}, eligible only until {due[1][1]:#x}")
        left = room(self.level, self.is_set(size), charged, size, self.m)
        if left is not None and event.end - event.start > left:
            raise WrongPassError(f"tried {_spell(event)} with {left} bytes of quota left")
        length = event.end - event.start
        return charged + charge(self.scheme, length, length * self.applied_share)

    def _counted(self, state: State, one: Pass) -> State:
        if one.stat is not None and one.stat.qt_exceeds != state.qt_exceeds:
            raise WrongPassError(f"qt_exceeds is {one.stat.qt_exceeds} after {state.qt_exceeds} full windows")
        return state


def _next(memory: Sequence[Span], at: Place) -> Span | None:
    """Return the rest of the memory from ``at`` on: its first piece."""
    for start, end in memory:
        if end > at and not (end[0] == at[0] and end[1] <= at[1]):
            return (max(start, at), end)
    return None


def _spell(event: BeforeApplyEvent) -> str:
    return f"{event.start:#x}-{event.end:#x} of target {event.target_idx} ({event.nr_accesses}, {event.age})"


# --- checks ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReadStats:
    """The counters of a scheme, read by a command between two moments while it was running."""

    begin_ns: int
    end_ns: int
    stats: DamosStats


def follow(
    replay: QuotaReplay,
    passes: Sequence[Pass],
    read: ReadStats | None = None,
    *,
    least: int = 5,
    windows: int = 0,
) -> list[Check]:
    """Check that every pass did what its quota allowed, all of it, in order, and was counted so. Exact.

    ``least``: fewer passes show too little, and leave it undecided. ``windows``: the same of charge windows
    that lasted a reset interval.
    """
    done = replay.run(passes)
    checks = [
        enough_passes(passes, least),
        _nothing("wrong passes", done.wrong, "what is tried follows from the quota", "I44, I47, I49, I50"),
        *sizes_agree(passes, replay.level),
        *windows_last(done, passes, windows),
    ]
    if read is not None and not done.wrong and passes:
        checks.append(counted(done, passes, read))
    return checks


def windows_last(done: Replayed, passes: Sequence[Pass], least: int = 0) -> list[Check]:
    """Check I45 of the median window: it ends with the first pass that begins after its reset interval.

    Single ones may seem to begin earlier or later, where ticks of the clock come late (``TICKS_NS``); half of
    them do not. Windows of which it is not certain when they began are left out. No check of fewer than
    three, unless more are wanted: then it is undecided.
    """
    late = _certainly_late(done)
    m = Measurement(
        "median delay of a charge window's end",
        _ms(median(late)) if late else 0.0,
        "ms",
        tuple(map(_ms, late)),
    )
    if len(late) < max(least, 3):
        why = f"{len(late)} windows of a reset interval were certain; fewer show too little"
        return [Check("invariant", m, f"of {least}", why, None, invariant="I45")] if least else []
    apart = median(b.begin_ns - a.begin_ns for a, b in pairwise(passes))
    low, high = -_ms(2 * TICK_NS), _ms(apart + 2 * TICK_NS)
    why = "a window lasts a reset interval, counted in ticks, and until the next pass"
    return [Check("invariant", m, f"{low:g} to {high:g}", why, low <= m.value <= high, invariant="I45")]


def _certainly_late(done: Replayed) -> list[int]:
    """Return how late each window began that all possible states agree on, ns."""
    late, last_ns = [], None
    for states in done.states:
        if len({(state.began_ns, state.late_ns) for state in states}) != 1:
            continue
        state = next(iter(states))
        if state.late_ns is not None and state.began_ns != last_ns:
            late.append(state.late_ns)
        last_ns = state.began_ns
    return late


def _ms(ns: float) -> float:
    return ns / NSEC_PER_MSEC


def counted(done: Replayed, passes: Sequence[Pass], read: ReadStats) -> Check:
    """Check that the counters read are those after one of the passes that were done by then."""
    tried, admissible = 0, set()
    if passes[0].end_ns > read.begin_ns:
        admissible.add((0, 0))
    for i, (one, states) in enumerate(zip(passes, done.states, strict=True)):
        tried += sum(e.end - e.start for e in one.applied)
        last = i + 1 == len(passes) or passes[i + 1].end_ns > read.begin_ns
        if last and one.begin_ns <= read.end_ns:
            admissible |= {(tried, state.qt_exceeds) for state in states}
    seen = (read.stats.sz_tried, read.stats.qt_exceeds)
    m = Measurement("qt_exceeds", float(seen[1]), "count")
    why = "sz_tried grows by what was tried, qt_exceeds by windows that ended full (4.12)"
    limit = "sz_tried, qt_exceeds " + (" or ".join(map(str, sorted(admissible))) or "of a pass that was seen")
    detail = "" if seen in admissible else f"{seen}"
    return Check("invariant", m, limit, why, seen in admissible, detail, invariant="I47")


def enough_passes(passes: Sequence[Pass], least: int) -> Check:
    """Check that there were passes to look at; none when events were lost."""
    m = Measurement("passes", float(len(passes)), "count")
    why = "fewer show too little"
    return Check("invariant", m, f">= {least}", why, True if len(passes) >= least else None)


def sizes_agree(passes: Sequence[Pass], level: Series) -> list[Check]:
    """Check I54: counters grow by exactly what was tried. Only where they are traced (7.0)."""
    wrong, before, looked = [], (0, 0), 0
    for index, one in enumerate(passes):
        if one.stat is None:
            continue
        looked += 1
        tried = sum(e.end - e.start for e in one.applied)
        seen = (one.stat.sz_tried - before[0], one.stat.nr_tried - before[1])
        # 7.1 and older count tries of what the quota has no room for, of size 0.
        nr_is_exact = level.is_full_below_min_region
        if seen[0] != tried or (nr_is_exact and seen[1] != len(one.applied)) or seen[1] < len(one.applied):
            wrong.append(f"pass {index}: counted {seen}, applied to {(tried, len(one.applied))}")
        before = (one.stat.sz_tried, one.stat.nr_tried)
    why = "sz_tried and nr_tried grow by what was tried"
    return [_nothing("passes counted wrongly", wrong, why, "I54")] if looked else []


def tried_ranges(passes: Sequence[Pass]) -> tuple[Range, ...]:
    """Return all memory that was ever tried, of target 0, joined."""
    return tuple(joined((e.start, e.end) for one in passes for e in one.applied if e.target_idx == 0))


def fair(passes: Sequence[Pass], memory: Sequence[Range]) -> list[Check]:
    """Check continuation: once as much was tried as there is memory (all of it eligible), each byte was
    tried."""
    total = sum(end - start for start, end in memory)
    tried = sum(e.end - e.start for one in passes for e in one.applied)
    rounds = tried // total if total else 0
    reached = sum(
        max(0, min(b, end) - max(a, start)) for a, b in tried_ranges(passes) for start, end in memory
    )
    enough = Measurement("rounds through all memory", float(rounds), "count")
    m = Measurement("bytes that were never tried", float(total - reached), "bytes")
    why = "each window goes on where the last one stopped (§4.6)"
    return [
        Check("invariant", enough, ">= 1", "fewer show too little", True if rounds >= 1 else None),
        Check("invariant", m, "== 0", why, m.value == 0),
    ]


def _nothing(name: str, wrong: Sequence[str], why: str, invariant: str = "") -> Check:
    m = Measurement(name, float(len(wrong)), "count")
    return Check("invariant", m, "== 0", why, not wrong, "; ".join(wrong[:3]), invariant=invariant)

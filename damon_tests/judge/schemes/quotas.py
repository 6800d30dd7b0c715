# SPDX-License-Identifier: GPL-2.0
"""Replay quotas: what each pass may try follows from the passes before it (specification 4.3 to 4.7).

The replay keeps the charged size of the window and the address at which the next window continues, and checks
each tried region against them. The division of memory into regions does not matter: the next tried region
must begin at the first eligible byte, and a pass ends only when the quota or the memory is used up. The start
of a window is known up to the kernel's clock ticks; where two windows are possible, the replay follows both
until the tries decide.
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
from damon_tests.judge.chart import explain
from damon_tests.judge.schemes import priorities
from damon_tests.judge.schemes.priorities import Span
from damon_tests.judge.schemes.quota_chart import quota_chart
from damon_tests.judge.schemes.quota_passes import Pass, Place
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_USEC
from damon_tests.ports.numbers import number
from damon_tests.ports.ranges import Range, joined

TICK_NS = 10 * NSEC_PER_MSEC
"""The longest clock tick that a kernel is built with."""

EXACT_TICKS_NS = 2 * TICK_NS
"""Largest error of a window's observed begin. The kernel counts it in ticks, at either end of the window."""

LATE_TICKS_NS = 100 * NSEC_PER_MSEC
"""The same on a clock that goes on while the machine waits for a processor of its host: ticks come late."""

ANYWHERE: Place = (-1, -1)
"""The address to continue at is not known yet: the first tried region shows it."""


def is_full(level: Series, quota_is_set: bool, charged: int, size: int, m: int) -> bool:
    """Return whether the window's quota is used up (4.5). Sizes in bytes."""
    if level.is_full_below_min_region:
        return quota_is_set and (charged >= size or size - charged < m)
    if level.limits_by_zero_quota:
        return quota_is_set and charged >= size
    return size != 0 and charged >= size


def room(level: Series, quota_is_set: bool, charged: int, size: int, m: int) -> int | None:
    """Return the largest size of the next tried region, in bytes; None: any size."""
    if not quota_is_set or (size == 0 and not level.limits_by_zero_quota):
        return None
    return max(size - charged, 0) // m * m


def charge(scheme: Damos, size: int, applied: int) -> int:
    """Return the bytes charged for a region: the fail charge ratio applies to what failed (4.7)."""
    num, denom = scheme.quota.fail_charge_num, scheme.quota.fail_charge_denom
    if not denom or applied > size:
        return size
    return applied + (size - applied) * num // denom


@dataclass(frozen=True)
class State:
    """A quota's state between two passes.

    ``charged``: bytes charged in the current window, which began at ``began_ns`` (None: no window yet).
    ``cursor``: where the last exhausted window ended; None: the next pass starts at the first region.
    ``qt_exceeds``: windows that ended full. ``size``: the effective size, which commits do not change within
    a window. ``late_ns``: how long after the end of the last reset interval the current window began; None:
    first.
    """

    charged: int = 0
    began_ns: int | None = None
    cursor: Place | None = None
    qt_exceeds: int = 0
    size: int = 0
    late_ns: int | None = None


@dataclass
class Replayed:
    """The result of a replay. ``states``: the possible states after each pass, until a pass is ``wrong``."""

    wrong: list[str] = field(default_factory=list)
    states: list[frozenset[State]] = field(default_factory=list)


class WrongPassError(Exception):
    """A pass that does not follow from the state before it."""


@dataclass(frozen=True)
class QuotaReplay:
    """What to replay: ``scheme`` of the request ``ctx``, whose access pattern must match regions of any size.

    ``sizes``: the effective size at each pass; None: always the requested one. ``applied_share``: the share
    of the bytes on which actions succeed, 0 or 1. ``later``: schemes committed online, (begin_ns, end_ns,
    scheme); a pass during a commit may use either. ``ticks_ns``: the largest error of a window's begin.

    Some releases have defects that have tests of their own. Unless ``strict``, the replay expects of a
    release what its defects do, so that it can judge the rest: no quota in the first window of a reset
    interval, a window that skips one minimum region where the last one stopped if a region begins there.
    """

    scheme: Damos
    ctx: DamonCtx
    level: Series
    sizes: Sequence[int] | None = None
    applied_share: int = 0
    strict: bool = False
    later: Sequence[tuple[int, int, Damos]] = ()
    ticks_ns: int = LATE_TICKS_NS

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
        """Replay the passes from ``first`` (None: a new scheme); stop at the first wrong pass."""
        states, done = frozenset({first or State()}), Replayed()
        for index, pass_ in enumerate(passes):
            after, reasons = set(states) if self._may_be_left_out(pass_) else set(), []
            for state, replay in product(states, self._in_force(pass_)):
                for begun in replay._windows(state, pass_, index):
                    for at in replay._starts(begun.cursor, pass_):
                        try:
                            after.add(replay._pass(begun, pass_, at))
                        except WrongPassError as wrong:
                            reasons.append(str(wrong))
            if not after:
                done.wrong.append(f"pass {index}: {'; or '.join(dict.fromkeys(reasons))}")
                return done
            states = frozenset(after)
            done.states.append(states)
        return done

    def _may_be_left_out(self, pass_: Pass) -> bool:
        """Return whether the scheme may have skipped this aggregation.

        Before 6.18 a commit restarts the apply interval.
        """
        if self.level.keeps_window_on_equal_commit or pass_.applied:
            return False
        last_ns = self.ctx.attrs.aggr_us * NSEC_PER_USEC
        return any(begin <= pass_.end_ns and pass_.begin_ns <= end + last_ns for begin, end, _ in self.later)

    def _in_force(self, pass_: Pass) -> list[QuotaReplay]:
        """Return a replay for each scheme that may have been in force in this pass."""
        possible = [self.scheme]
        for begin, end, scheme in self.later:
            if pass_.end_ns > end:
                possible = [scheme]
            elif pass_.end_ns > begin:
                possible.append(scheme)
        return [replace(self, scheme=scheme, later=()) for scheme in possible]

    def _windows(self, state: State, pass_: Pass, index: int) -> list[State]:
        """Return the possible states at the begin of the pass: in the old window, or in a new one."""
        size, reset_ns = self.size_at(index), self.scheme.quota.reset_interval_ms * NSEC_PER_MSEC
        if not self.is_set(size):
            return [state]
        if state.began_ns is None:
            state = replace(state, began_ns=pass_.begin_ns, size=size)
            if reset_ns:
                without = not (self.strict or self.level.limits_first_window)
                return [replace(state, size=0)] if without else [state]
        assert state.began_ns is not None
        fresh = replace(
            state,
            charged=0,
            began_ns=pass_.begin_ns,
            qt_exceeds=state.qt_exceeds + self.full(state.charged, state.size),
            size=size,
        )
        if not reset_ns:
            return [fresh]
        late = pass_.begin_ns - state.began_ns - reset_ns
        fresh = replace(fresh, late_ns=late)
        if late >= self.ticks_ns:
            return [fresh]
        return [state] if late < -self.ticks_ns else [state, fresh]

    def _starts(self, cursor: Place | None, pass_: Pass) -> list[Place]:
        """Return the places at which the pass may begin."""
        if cursor is None or cursor == ANYWHERE:
            return [cursor or (0, 0)]
        mine = [r for r in pass_.regions if r.target_id == cursor[0]]
        if not self.level.visits_rest_of_split_region and mine and all(r.end <= cursor[1] for r in mine[:-1]):
            # Nothing was left before the last region, and that is skipped.
            return [(cursor[0], mine[-1].end)]
        skips = not self.strict and self.level.skips_page_at_continuation
        return [cursor, (cursor[0], cursor[1] + self.m)] if skips else [cursor]

    def _pass(self, state: State, pass_: Pass, at: Place) -> State:
        size, charged = state.size, state.charged
        if self.full(charged, size):
            if pass_.applied:
                raise WrongPassError(
                    f"tried {_spell(pass_.applied[0])} though {charged} of {size} are charged"
                )
            return self._counted(state, pass_)
        memory = priorities.eligible(pass_.pieces(), self.scheme, self.ctx, self.level, size)
        for event in pass_.applied:
            charged = self._applied(event, memory, at, charged, size)
            at = (event.target_idx, event.end)
        end = None
        if pass_.applied and self.full(charged, size):
            end = at
        elif room(self.level, self.is_set(size), charged, size, self.m) != 0:
            left = _next(memory, at)
            if left is not None and at != ANYWHERE:
                raise WrongPassError(f"{left[0][1]:#x} not tried though only {charged} of {size} are charged")
        return self._counted(replace(state, charged=charged, cursor=end), pass_)

    def _applied(
        self, event: BeforeApplyEvent, memory: Sequence[Span], at: Place, charged: int, size: int
    ) -> int:
        """Return the charged bytes after a tried region. Raises WrongPassError when the quota forbids it."""
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

    def _counted(self, state: State, pass_: Pass) -> State:
        if pass_.stat is not None and pass_.stat.qt_exceeds != state.qt_exceeds:
            raise WrongPassError(
                f"qt_exceeds is {pass_.stat.qt_exceeds} after {state.qt_exceeds} full windows"
            )
        return state


def _next(memory: Sequence[Span], at: Place) -> Span | None:
    """Return the first span of eligible memory from ``at`` on; None if there is none."""
    for start, end in memory:
        if end > at and not (end[0] == at[0] and end[1] <= at[1]):
            return (max(start, at), end)
    return None


def _spell(event: BeforeApplyEvent) -> str:
    return f"{event.start:#x}-{event.end:#x} of target {event.target_idx} ({event.nr_accesses}, {event.age})"


# --- checks ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReadStats:
    """The counters of a running scheme, read between ``begin_ns`` and ``end_ns``."""

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
    """Check that every pass tried all that its quota allowed, in order, and was counted so. Exact.

    Checks I44, I45, I47, I49, I50 and I54. ``least``: with fewer passes the result is undecided. ``windows``:
    with fewer certain windows of a reset interval, I45 is undecided.
    """
    done = replay.run(passes)
    checks = [
        enough_passes(passes, least),
        _nothing(
            "wrong passes", done.wrong, "a pass tries exactly what its quota allows", "I44, I47, I49, I50"
        ),
        *sizes_agree(passes, replay.level),
        *windows_last(done, passes, windows),
    ]
    if read is not None and not done.wrong and passes:
        checks.append(counted(done, passes, read))
    return explain(checks, lambda: quota_chart(passes, replay.scheme, replay.sizes))


def windows_last(done: Replayed, passes: Sequence[Pass], least: int = 0) -> list[Check]:
    """Check I45 of the median window: it ends with the first pass that begins after its reset interval.

    Late clock ticks shift single windows (``LATE_TICKS_NS``), but not half of them. Windows whose begin is
    not certain are left out. With fewer than ``least``, or three, the check is undecided; with ``least`` 0
    there is none.
    """
    late = _certainly_late(done)
    m = Measurement(
        "median delay of a charge window's end",
        _ms(median(late)) if late else 0.0,
        "ms",
        tuple(map(_ms, late)),
    )
    if len(late) < max(least, 3):
        why = f"{len(late)} windows of a reset interval were certain; fewer decide nothing"
        return [Check("invariant", m, f"of {least}", why, None, invariant="I45")] if least else []
    apart = median(b.begin_ns - a.begin_ns for a, b in pairwise(passes))
    low, high = -_ms(2 * TICK_NS), _ms(apart + 2 * TICK_NS)
    why = "a window lasts a reset interval, counted in ticks, and ends with the next pass"
    return [
        Check(
            "invariant", m, f"{number(low)} to {number(high)}", why, low <= m.value <= high, invariant="I45"
        )
    ]


def _certainly_late(done: Replayed) -> list[int]:
    """Return how late each window began, in ns, for windows on whose begin all possible states agree."""
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
    """Check I47: the counters read are those after one of the passes done by then."""
    tried, admissible = 0, set()
    if passes[0].end_ns >= read.begin_ns:
        admissible.add((0, 0))
    for i, (pass_, states) in enumerate(zip(passes, done.states, strict=True)):
        tried += sum(e.end - e.start for e in pass_.applied)
        last = i + 1 == len(passes) or passes[i + 1].end_ns >= read.begin_ns
        if last and pass_.begin_ns <= read.end_ns:
            admissible |= {(tried, state.qt_exceeds) for state in states}
    counters = (read.stats.sz_tried, read.stats.qt_exceeds)
    m = Measurement("qt_exceeds", float(counters[1]), "count")
    why = "sz_tried grows by what was tried, qt_exceeds by windows that ended full (4.12)"
    limit = "sz_tried, qt_exceeds " + (" or ".join(map(str, sorted(admissible))) or "of a recorded pass")
    detail = "" if counters in admissible else f"{counters}"
    return Check("invariant", m, limit, why, counters in admissible, detail, invariant="I47")


def enough_passes(passes: Sequence[Pass], least: int) -> Check:
    """Check that at least ``least`` passes were recorded; there are none when events were lost."""
    m = Measurement("passes", float(len(passes)), "count")
    why = "fewer passes decide nothing"
    return Check("invariant", m, f">= {least}", why, True if len(passes) >= least else None)


def sizes_agree(passes: Sequence[Pass], level: Series) -> list[Check]:
    """Check I54: counters grow by exactly what was tried.

    No check where the series does not trace them; undecided if it does, and no pass has them.
    """
    wrong, before, looked = [], (0, 0), 0
    for index, pass_ in enumerate(passes):
        if pass_.stat is None:
            continue
        looked += 1
        tried = sum(e.end - e.start for e in pass_.applied)
        growth = (pass_.stat.sz_tried - before[0], pass_.stat.nr_tried - before[1])
        # 7.1 and older count tries of what the quota has no room for, of size 0.
        nr_is_exact = level.is_full_below_min_region
        if (
            growth[0] != tried
            or (nr_is_exact and growth[1] != len(pass_.applied))
            or growth[1] < len(pass_.applied)
        ):
            wrong.append(f"pass {index}: counted {growth}, applied to {(tried, len(pass_.applied))}")
        before = (pass_.stat.sz_tried, pass_.stat.nr_tried)
    why = "sz_tried and nr_tried grow by what was tried"
    if looked:
        return [_nothing("passes counted wrongly", wrong, why, "I54")]
    m = Measurement("passes counted wrongly", 0, "count")
    undecided = Check("invariant", m, "== 0", why, None, "no statistics were traced", invariant="I54")
    return [undecided] if level.traces_statistics else []


def tried_ranges(passes: Sequence[Pass]) -> tuple[Range, ...]:
    """Return all memory of target 0 that was ever tried, joined."""
    return tuple(joined((e.start, e.end) for p in passes for e in p.applied if e.target_idx == 0))


def fair(passes: Sequence[Pass], memory: Sequence[Range]) -> list[Check]:
    """Check continuation (§4.6): once as many bytes were tried as there are, each byte was tried.

    ``memory``: the monitored ranges, all of which must be eligible.
    """
    total = sum(end - start for start, end in memory)
    tried = sum(e.end - e.start for p in passes for e in p.applied)
    rounds = tried // total if total else 0
    reached = sum(
        max(0, min(b, end) - max(a, start)) for a, b in tried_ranges(passes) for start, end in memory
    )
    enough = Measurement("rounds through all memory", float(rounds), "count")
    m = Measurement("bytes that were never tried", float(total - reached), "bytes")
    why = "each window continues where the last one stopped (§4.6)"
    return [
        Check(
            "invariant", enough, ">= 1", "less than a round decides nothing", True if rounds >= 1 else None
        ),
        Check("invariant", m, "== 0", why, m.value == 0),
    ]


def _nothing(name: str, wrong: Sequence[str], why: str, invariant: str = "") -> Check:
    m = Measurement(name, float(len(wrong)), "count")
    return Check("invariant", m, "== 0", why, not wrong, "; ".join(wrong[:3]), invariant=invariant)

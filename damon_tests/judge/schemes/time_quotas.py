# SPDX-License-Identifier: GPL-2.0
"""Check time quotas: the effective size is the quota's time times the throughput so far (specification 4.4).

The kernel does not trace how long it took, but each size implies it: the throughput is a whole number of
bytes per millisecond, over all that was charged so far. The implied times must be possible: they never
shrink, and never exceed the time since the scheme started. Before 6.17 sizes are not traced, but what a pass
tries until its quota ends it is the size, less than a minimum region short.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from damon_tests.damon.params import DamosQuota
from damon_tests.judge.schemes.goals import traced_sizes
from damon_tests.judge.schemes.quota_passes import Pass
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import NSEC_PER_MSEC, page_size
from damon_tests.ports.numbers import number

TICK_NS = 10 * NSEC_PER_MSEC
"""The longest tick of the coarse clock, in which DAMON measures time."""


def first_throughput() -> int:
    """Return the bytes per millisecond that DAMON assumes until it has measured a time: 1024 pages.

    An action shorter than a tick of the coarse clock takes no time.
    """
    return 1024 * page_size()


@dataclass(frozen=True)
class Spent:
    """The total time of applying the action: between ``low_ns`` and ``high_ns``."""

    low_ns: int
    high_ns: int


def spent(size: int, quota: DamosQuota, charged: int, m: int) -> Spent | None:
    """Return the time that implies the effective size ``size`` after ``charged`` bytes; None if none does.

    ``m``: the size of the smallest region, bytes.
    """
    anything = Spent(0, 1 << 62)
    if quota.bytes and size == quota.bytes:
        # The time would have allowed as much or more; none measured allows ``first_throughput``.
        enough = -(-size // quota.ms)
        return Spent(0, charged * NSEC_PER_MSEC // enough if charged else 1 << 62)
    if size == m:
        return anything
    if size % quota.ms or size < m:
        return None
    throughput = size // quota.ms
    low = charged * NSEC_PER_MSEC // (throughput + 1) + 1
    high = charged * NSEC_PER_MSEC // throughput
    if throughput == first_throughput():
        return Spent(0, max(high, 0))
    return Spent(low, high) if low <= high else None


def first_size(quota: DamosQuota) -> int:
    """Return the effective size in bytes before anything was charged."""
    size = first_throughput() * quota.ms
    return min(size, quota.bytes) if quota.bytes else size


def throughput_is_measured(passes: Sequence[Pass], quota: DamosQuota) -> Check:
    """Check that DAMON measured time: some size does not follow from ``first_throughput``."""
    others = {size for size in traced_sizes(passes, first_size(quota)) if size != first_size(quota)}
    m = Measurement("effective sizes from a measured throughput", float(len(others)), "count")
    return Check(
        "invariant", m, ">= 1", "the action takes longer than a tick of the clock (§4.4)", bool(others)
    )


def follow(passes: Sequence[Pass], quota: DamosQuota, m: int, *, least: int = 5) -> Check:
    """Check that every effective size follows from the time quota, for a time that can have been spent.

    For a reset interval of 0, without fail charges. ``least``: with fewer sizes the result is undecided.
    """
    in_force = traced_sizes(passes, first_size(quota))
    charged, low, wrong, judged = 0, 0, [], 0
    for index, (pass_, size) in enumerate(zip(passes, in_force, strict=True)):
        if size is not None:
            judged += 1
            implied = spent(size, quota, charged, m)
            elapsed = pass_.end_ns - passes[0].begin_ns + TICK_NS
            if implied is None:
                wrong.append(f"pass {index}: {size} bytes of {charged}: no time makes that")
            elif max(low, implied.low_ns) > min(implied.high_ns, elapsed):
                needed = f"{implied.low_ns} to {implied.high_ns} ns after {low}, {elapsed} ns after the start"
                wrong.append(f"pass {index}: {size} bytes of {charged} take {needed}")
            else:
                low = max(low, implied.low_ns)
        charged += sum(e.end - e.start for e in pass_.applied)
    m_wrong = Measurement("sizes that no spent time explains", float(len(wrong)), "count")
    why = f"the size is {quota.ms} ms of the throughput so far (§4.4); {judged} sizes"
    why += f" imply at least {number(low / NSEC_PER_MSEC)} ms spent"
    holds = None if judged < least else not wrong
    return Check("closed form", m_wrong, "== 0", why, holds, "; ".join(wrong[:3]))


# --- without traced sizes --------------------------------------------------------------------------------


def size_by_tries(pass_: Pass, m: int) -> tuple[int, int] | None:
    """Return the least and largest effective size of a pass that its quota ended; None if memory ended it.

    A pass tries all of its quota but what is less than ``m``, the smallest region. It ends where the quota
    is used up, or at the end of the memory.
    """
    if not pass_.applied or not pass_.regions:
        return None
    last, end = pass_.applied[-1], pass_.regions[-1]
    if (last.target_idx, last.end) == (end.target_id, end.end):
        return None
    tried = sum(e.end - e.start for e in pass_.applied)
    return tried, tried + m - 1


def spent_between(low: int, high: int, quota: DamosQuota, charged: int, m: int) -> Spent | None:
    """Return the time that implies an effective size from ``low`` to ``high`` after ``charged`` bytes.

    None if no time does. For quotas of time only.
    """
    if low <= m:
        return Spent(0, 1 << 62)
    slowest, fastest = max(1, -(-low // quota.ms)), high // quota.ms
    if slowest > fastest:
        return None
    at_most = charged * NSEC_PER_MSEC // slowest
    if slowest <= first_throughput() <= fastest:
        return Spent(0, at_most)
    at_least = charged * NSEC_PER_MSEC // (fastest + 1) + 1
    return Spent(at_least, at_most) if at_least <= at_most else None


def tries_follow(passes: Sequence[Pass], quota: DamosQuota, m: int, *, least: int = 5) -> list[Check]:
    """Check that each pass that its quota ended tried as much as some time that can have been spent allows.

    For series that do not trace effective sizes, a quota of time only, a reset interval of 0, and an access
    pattern that matches all memory. The first pass is exact.
    ``least``: with fewer passes that their quota ended the result is undecided.
    """
    charged, low, wrong, judged = 0, 0, [], 0
    for index, pass_ in enumerate(passes):
        bounds = size_by_tries(pass_, m)
        if bounds is not None:
            judged += 1
            implied = spent_between(*bounds, quota, charged, m)
            elapsed = pass_.end_ns - passes[0].begin_ns + TICK_NS
            if implied is None or max(low, implied.low_ns) > min(implied.high_ns, elapsed):
                wrong.append(f"pass {index}: tried {bounds[0]} after {charged}, {elapsed} ns after the start")
            else:
                low = max(low, implied.low_ns)
        charged += sum(e.end - e.start for e in pass_.applied)
    m_wrong = Measurement("passes that no spent time explains", float(len(wrong)), "count")
    why = f"a pass tries {quota.ms} ms of the throughput so far (§4.4); {judged} passes"
    holds = None if judged < least else not wrong
    return [
        _first_pass(passes, quota),
        Check("closed form", m_wrong, "== 0", why, holds, "; ".join(wrong[:3])),
    ]


def _first_pass(passes: Sequence[Pass], quota: DamosQuota) -> Check:
    tried = float(sum(e.end - e.start for e in passes[0].applied)) if passes else 0.0
    m = Measurement("bytes tried in the first pass", tried, "bytes")
    memory = sum(r.end - r.start for r in passes[0].regions) if passes else 0
    size = min(first_size(quota), memory)
    why = "before a time is measured, a millisecond is 1024 pages (§4.4)"
    return Check("closed form", m, f"== {number(size)}", why, tried == size if passes else None)


def tries_were_measured(passes: Sequence[Pass], quota: DamosQuota, m: int) -> Check:
    """Check that DAMON measured time: a pass that its quota ended tried something else than the first."""
    sizes = [bounds for bounds in (size_by_tries(pass_, m) for pass_ in passes) if bounds is not None]
    others = [low for low, high in sizes if not low <= first_size(quota) <= high]
    measured = Measurement("passes of a measured throughput", float(len(others)), "count")
    why = "the action takes longer than a tick of the clock (§4.4)"
    return Check("invariant", measured, ">= 1", why, bool(others) if sizes else None)

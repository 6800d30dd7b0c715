# SPDX-License-Identifier: GPL-2.0
"""Check that ``tried_regions/`` has the regions that damos_before_apply printed in one pass.

The command updates the directory with the regions of one pass of each scheme (specification 4.11), with
nr_accesses and the age before the action. The passes are those of a request with a watcher
(``judge.schemes.watched_passes``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from damon_tests.damon.params import DamonCtx
from damon_tests.damon.records import Snapshot, TriedRegions
from damon_tests.damon.series import Series
from damon_tests.judge.monitoring.invariants import tried_regions
from damon_tests.judge.schemes.watched_passes import Try, WatchedPass, no_difference, spell
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_USEC

_TICK_NS = 10 * NSEC_PER_MSEC  # of the slowest tick a kernel is built with


@dataclass(frozen=True, eq=False)
class Answer:
    """``tried_regions/`` of all schemes after an update, from ``begin_ns`` to ``end_ns``."""

    begin_ns: int
    end_ns: int
    schemes: tuple[TriedRegions, ...]


def regions_of_one_pass(
    recorded: Sequence[WatchedPass], answers: Sequence[Answer], ctx: DamonCtx, level: str
) -> list[Check]:
    """Check that every scheme's regions are exactly those of one pass, and add up to total_bytes (I7). Exact.

    For one target, and schemes that were due during the command, or tried nothing. Answers after the last
    complete recorded pass are left out.
    """
    gives_up = not Series.of(level).waits_for_tried_regions
    checks = [check for answer in answers for tried in answer.schemes for check in tried_regions(tried)]
    wrong, judged, regions, detail = 0, 0, 0, ""
    for answer in answers:
        if not recorded or answer.end_ns > recorded[-1].time_ns:
            continue
        # Trace prints whole microseconds.
        meanwhile = [p for p in recorded if answer.begin_ns - NSEC_PER_USEC <= p.time_ns <= answer.end_ns]
        for tried in answer.schemes:
            if gives_up and not len(tried.regions) and _took_too_long(answer, tried.scheme_idx, ctx):
                continue
            judged += 1
            regions += len(tried.regions)
            shown = _tries(tried.scheme_idx, tried.regions)
            if not any(shown == [t for t in p.tries if t.scheme_idx == tried.scheme_idx] for p in meanwhile):
                wrong += 1
                detail = detail or _spell(tried.scheme_idx, shown, meanwhile)
    m = Measurement("tried_regions of no pass", wrong, "count")
    why = f"tried regions are those of one pass (§4.11); {judged} directories, {regions} regions"
    check = no_difference(m, recorded if regions else (), why, detail)
    return [*checks, check]


def _took_too_long(answer: Answer, scheme_idx: int, ctx: DamonCtx) -> bool:
    """Return whether the command may have given up.

    Before 6.15 it waits for two apply intervals, counted in ticks.
    """
    interval_us = ctx.schemes[scheme_idx].apply_interval_us or ctx.attrs.aggr_us
    return answer.end_ns - answer.begin_ns >= 2 * interval_us * NSEC_PER_USEC - _TICK_NS


def _tries(scheme_idx: int, shown: Snapshot) -> list[Try]:
    rows = zip(shown.start, shown.end, shown.nr_accesses, shown.age, strict=True)
    return [Try(scheme_idx, 0, *(int(value) for value in row)) for row in rows]


def _spell(scheme_idx: int, shown: Sequence[Try], meanwhile: Sequence[WatchedPass]) -> str:
    begin = ", ".join(map(spell, shown[:3]))
    counts = [sum(t.scheme_idx == scheme_idx for t in p.tries) for p in meanwhile]
    return f"scheme {scheme_idx}: {len(shown)} regions ({begin} ...), passes meanwhile had {counts}"

# SPDX-License-Identifier: GPL-2.0
"""Wrong statistics of schemes."""

from __future__ import annotations

from typing import Any

from damon_tests.ports import page_size
from damon_tests.reference.faults.fault import Fault
from damon_tests.reference.rules import schemes as damos


def _applied_only(stats: Any, count: int, size: int, applied: int, passed: int) -> None:
    damos.account(stats, count, applied, applied, passed)


def _applied_always(stats: Any, count: int, size: int, applied: int, passed: int) -> None:
    damos.account(stats, count, size, size, passed)


def _passed_forgotten(stats: Any, count: int, size: int, applied: int, passed: int) -> None:
    damos.account(stats, count, size, applied, 0)


def _each_applied(stats: Any, count: int, size: int, applied: int, passed: int) -> None:
    damos.account(stats, count, size, applied, passed)
    stats.nr_applied += count if applied == 0 else 0


def _each_but_the_seventh(stats: Any, count: int, size: int, applied: int, passed: int) -> None:
    damos.account(stats, count, size, applied, passed)
    stats.nr_tried -= count > 0 and stats.nr_tried % 7 == 0


def _pages_tried(stats: Any, count: int, size: int, applied: int, passed: int) -> None:
    damos.account(stats, count, size // page_size(), applied, passed)


def _swapped(name: str) -> str:
    return {"sz_tried": "sz_applied", "sz_applied": "sz_tried"}.get(name, name)


FAULTS = (
    Fault("stats_swapped", "stats", "sz_tried and sz_applied are swapped", "statistic", _swapped),
    Fault(
        "stats_tried_is_applied", "stats", "sz_tried counts what was applied only", "account", _applied_only
    ),
    Fault("stats_applied_is_tried", "stats", "sz_applied counts what was tried", "account", _applied_always),
    Fault("stats_passed_lost", "stats", "sz_ops_filter_passed stays 0", "account", _passed_forgotten),
    Fault(
        "stats_failed_is_applied",
        "stats",
        "nr_applied counts regions to which nothing was done",
        "account",
        _each_applied,
    ),
    Fault("stats_tries_missed", "stats", "some tries are not counted", "account", _each_but_the_seventh),
    Fault("stats_tried_in_pages", "stats", "sz_tried is counted in pages", "account", _pages_tried),
    Fault(
        "stats_tried_before_filters",
        "stats",
        "sz_tried counts regions as they were before an address filter cut them (7.2 and older)",
        "tried_size",
        lambda before, after: before,
    ),
    Fault(
        "snapshots_only_of_matches",
        "stats",
        "nr_snapshots counts passes that found something at the end only",
        "snapshot_counts",
        lambda matched: matched,
    ),
    Fault("snapshots_never", "stats", "nr_snapshots stays 0", "snapshot_counts", lambda matched: False),
    Fault(
        "qt_exceeds_every_window",
        "stats",
        "qt_exceeds counts windows that did not exceed",
        "window_exceeded",
        lambda full: True,
    ),
    Fault("qt_exceeds_never", "stats", "qt_exceeds stays 0", "window_exceeded", lambda full: False),
)

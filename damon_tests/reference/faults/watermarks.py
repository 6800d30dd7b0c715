# SPDX-License-Identifier: GPL-2.0
"""Wrong watermarks."""

from __future__ import annotations

from damon_tests.reference.faults.fault import Fault
from damon_tests.reference.rules import schemes as damos


def _forgetful_watermark(value: int, high: int, mid: int, low: int, active: bool) -> bool:
    return low <= value < mid


def _mid_ignored(value: int, high: int, mid: int, low: int, active: bool) -> bool:
    return low <= value <= high


def _high_ignored(value: int, high: int, mid: int, low: int, active: bool) -> bool:
    return value >= low and (active or value < mid)


def _borders_outside(value: int, high: int, mid: int, low: int, active: bool) -> bool:
    return low < value < high and (active or value < mid)


def _used_memory(value: int, high: int, mid: int, low: int, active: bool) -> bool:
    return damos.watermark_active(1000 - value, high, mid, low, active)


FAULTS = (
    Fault(
        "watermark_without_memory",
        "watermarks",
        "between mid and high an active scheme stops",
        "watermark_active",
        _forgetful_watermark,
    ),
    Fault(
        "watermark_low_ignored",
        "watermarks",
        "schemes go on below the low watermark",
        "watermark_active",
        lambda value, high, mid, low, active: damos.watermark_active(value, high, mid, 0, active),
    ),
    Fault(
        "watermarks_ignored",
        "watermarks",
        "schemes are always active",
        "watermark_active",
        lambda value, high, mid, low, active: True,
    ),
    Fault(
        "watermark_mid_ignored",
        "watermarks",
        "schemes become active anywhere between low and high",
        "watermark_active",
        _mid_ignored,
    ),
    Fault(
        "watermark_high_ignored",
        "watermarks",
        "schemes that are active stay so above the high watermark",
        "watermark_active",
        _high_ignored,
    ),
    Fault(
        "watermark_borders_outside",
        "watermarks",
        "low and high themselves are outside",
        "watermark_active",
        _borders_outside,
    ),
    Fault(
        "watermark_of_used_memory",
        "watermarks",
        "the metric is used, not free memory",
        "watermark_active",
        _used_memory,
    ),
    Fault(
        "watermark_one_stops_all",
        "watermarks",
        "one inactive scheme stops monitoring",
        "watermark_wait_us",
        max,
    ),
    Fault(
        "watermark_checked_too_rarely",
        "watermarks",
        "the kdamond looks every other interval",
        "watermark_wait_us",
        lambda waits: 2 * damos.watermark_wait_us(waits),
    ),
    Fault(
        "watermark_checked_too_often",
        "watermarks",
        "the kdamond looks twice in each interval",
        "watermark_wait_us",
        lambda waits: damos.watermark_wait_us(waits) // 2,
    ),
    Fault(
        "watermark_checked_a_fifth_later",
        "watermarks",
        "the kdamond looks at the watermarks a fifth later than their interval asks",
        "watermark_wait_us",
        lambda waits: damos.watermark_wait_us(waits) * 6 // 5,
    ),
    Fault(
        "watermark_checked_a_fifth_sooner",
        "watermarks",
        "the kdamond looks at the watermarks a fifth sooner than their interval asks",
        "watermark_wait_us",
        lambda waits: damos.watermark_wait_us(waits) * 4 // 5,
    ),
    Fault(
        "watermark_monitors_on",
        "watermarks",
        "monitoring goes on while all schemes are inactive",
        "watermark_wait_us",
        lambda waits: 0,
    ),
    Fault("watermark_starts_inactive", "watermarks", "schemes start inactive", "schemes_start_active", False),
    Fault(
        "watermark_commit_keeps_inactive",
        "watermarks",
        "a commit does not make schemes active",
        "commit_activates",
        False,
    ),
    Fault(
        "commit_waits_while_inactive",
        "watermarks",
        "a commit is not served while watermarks keep all schemes inactive (6.12)",
        "inactive_serves_commits",
        False,
    ),
    Fault(
        "watermark_sleep_forgets_ages",
        "watermarks",
        "ages are lost while all schemes are inactive",
        "ages_after_sleep",
        lambda ages: ages * 0,
    ),
)

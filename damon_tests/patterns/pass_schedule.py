# SPDX-License-Identifier: GPL-2.0
"""Read the passes and the drift of an access from YAML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from damon_tests.patterns.spec import Access, PatternRegion
from damon_tests.patterns.units import format_duration, format_size, parse_duration, parse_rate
from damon_tests.patterns.yaml_nodes import Value
from damon_tests.ports import page_size

MAX_RATE = "max"

NOMINAL_ACCESSES_PER_MS = 100_000
"""Nominal speed of free-running accesses on simulated targets: about that of masim on one CPU of a server
(field survey: 97,255 for its default pattern)."""

MAX_POSITIONS = 1 << 32


def nominal_period_ns(touches_per_pass: int) -> int:
    """Return the nominal duration of a free-running pass."""
    return max(1000, touches_per_pass * 1_000_000 // NOMINAL_ACCESSES_PER_MS)


def read_pace(keys: Mapping[str, Value], access: Access) -> Access:
    """Return ``access`` with its ``rate`` or ``period``. Raises UsageError."""
    if "rate" in keys and keys["rate"].text() == MAX_RATE:
        period = nominal_period_ns(access.touches_per_pass)
        if "period" in keys:
            period = keys["period"].period(parse_duration)
        return replace(access, free_running=True, period_ns=period)
    if "period" in keys and "rate" in keys:
        raise keys["rate"].error("there is a 'period', too; keep one of them")
    if "rate" in keys:
        return replace(access, period_ns=keys["rate"].period(parse_rate))
    if "period" in keys:
        return replace(access, period_ns=keys["period"].period(parse_duration))
    return access


def read_drift(keys: Mapping[str, Value], access: Access, region: PatternRegion) -> Access:
    """Return ``access`` with its ``drift``, ``drift_every`` and ``positions``. Raises UsageError."""
    if "drift" not in keys:
        for key in ("drift_every", "positions"):
            if key in keys:
                raise keys[key].error("there is no 'drift'; add it, or remove this")
        return access
    if access.order == "chase":
        raise keys["drift"].error("a chase cannot drift: its pointers stay where they are")
    drift = keys["drift"].pages(region.size_bytes, minimum=page_size())
    room = region.size_bytes - access.reach()[-1][1]
    positions = room // drift + 1
    if "positions" in keys:
        positions = keys["positions"].integer(2, MAX_POSITIONS)
    if positions < 2 or (positions - 1) * drift > room:
        raise keys["drift"].error(
            f"leaves region {region.name!r}: above the span are {format_size(room)}; make the span smaller"
        )
    return replace(
        access, drift_bytes=drift, drift_positions=positions, drift_passes=_drift_passes(keys, access)
    )


def _drift_passes(keys: Mapping[str, Value], access: Access) -> int:
    if "drift_every" not in keys:
        return 1
    every = keys["drift_every"].period(parse_duration)
    if every % access.period_ns:
        raise keys["drift_every"].error(
            f"must be a multiple of the period, {format_duration(access.period_ns)}: it moves between passes"
        )
    return every // access.period_ns

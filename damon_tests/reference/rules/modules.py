# SPDX-License-Identifier: GPL-2.0
"""The rules of the built-in modules, as small pure functions (DAMON 7.3; specification §6).

``ruleset.Rules`` collects them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from damon_tests.ports import NSEC_PER_SEC

PERCENTILES = 101
STAT_REFRESH_NS = 5 * NSEC_PER_SEC
"""How often DAMON_STAT computes its results, at the earliest."""


def request(module: str, ctx: Any) -> Any:
    """Return the request of a module as derived from its parameters, unchanged."""
    return ctx


def statistic(name: str) -> str:
    """Return the counter of its scheme that a parameter shows: the one of its name."""
    return name


def pid(pid: int, running: bool) -> int:
    """Return ``kdamond_pid`` of a module whose last thread had this pid."""
    return pid if running else -1


def idle_percentiles(sizes: Sequence[int], idle_ms: Sequence[int], count: int = PERCENTILES) -> list[int]:
    """Return percentiles 0.. of idleness weighted by bytes.

    Each is the value of the region at which the sum of sizes, regions sorted by idleness, first reaches
    that share.
    """
    total = sum(sizes)
    result = [0] * count
    if not total:
        return result
    done, percentile = 0, 0
    for idle, size in sorted(zip(idle_ms, sizes, strict=True)):
        done += size
        while percentile <= done * 100 // total and percentile < count:
            result[percentile] = idle
            percentile += 1
    return result


def bandwidth(accessed: int, aggr_us: int) -> int:
    """Return bytes a second; ``accessed`` is the sum of size * nr_accesses over all regions."""
    return accessed * 1_000_000 // aggr_us

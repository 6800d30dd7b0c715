# SPDX-License-Identifier: GPL-2.0
"""Compare a workload under a scheme of DAMON with the same without: memory saved, slowdown, refaults.

An ``Arm`` is one run; ``compared`` puts all runs with a scheme beside those without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BASELINE = "none"


@dataclass(frozen=True)
class WorkloadCost:
    """What a workload's threads and DAMON executed while the workload did ``work`` units of its work.

    ``own``: instructions of the workload's threads, page faults included, device interrupts left out.
    ``kdamond``: those of kdamonds. ``machine``: those of all threads. ``tlb_flushes``: flushes of a
    processor's TLB that any thread or interrupt did; ``kdamond_flushes``: of those, kdamonds' own.
    ``window_ns``: how long it took on the guest's clock.
    """

    work: float
    own: int
    kdamond: int
    machine: int
    tlb_flushes: int
    kdamond_flushes: int
    window_ns: int

    @property
    def own_per_work(self) -> float:
        """Return the instructions of a unit of work; infinite when nothing was done."""
        return self.own / self.work if self.work else float("inf")


@dataclass(frozen=True)
class Shares:
    """Of the touched pages, those in transparent huge pages, on the processors' node, on an active list."""

    huge: float
    near: float
    active: float


@dataclass(frozen=True)
class Arm:
    """One run of a workload under a scheme, or under ``BASELINE``, for a use of DAMON.

    Means over the measured window, in bytes: ``rss`` of the process, ``used`` memory of the machine. Counts
    in the window: ``minor_faults`` and ``refaults`` (major faults: pages read back) of the process. ``far``:
    bytes of the process on other nodes. ``shares``: where the pages are that it touched in the window, None
    where nobody knows which.
    """

    use: str
    workload: str
    scheme: str
    seed: int
    cost: WorkloadCost
    rss: float
    used: float
    minor_faults: int
    refaults: int
    far: float = 0.0
    shares: Shares | None = None


@dataclass(frozen=True)
class Saving:
    """Runs of a workload under a scheme against the same seeds without; one value a pair, in fractions.

    ``rss_saved``, ``used_saved``: of the bytes without the scheme. ``slowdown``: of the workload's own
    instructions per unit of work. ``kdamond``: DAMON's instructions as a share of one processor.
    """

    use: str
    workload: str
    scheme: str
    rss_saved: tuple[float, ...]
    used_saved: tuple[float, ...]
    slowdown: tuple[float, ...]
    kdamond: tuple[float, ...]
    arms: tuple[Arm, ...]
    baseline: tuple[Arm, ...]

    @property
    def refaults(self) -> tuple[int, ...]:
        return tuple(arm.refaults for arm in self.arms)


def compared(arms: Sequence[Arm]) -> list[Saving]:
    """Return a Saving for each workload and scheme, in the order in which they come.

    Raises ValueError for a run without a run of the same workload and seed under ``BASELINE``.
    """
    baseline = {(a.use, a.workload, a.seed): a for a in arms if a.scheme == BASELINE}
    groups: dict[tuple[str, str, str], list[Arm]] = {}
    for arm in arms:
        if arm.scheme != BASELINE:
            groups.setdefault((arm.use, arm.workload, arm.scheme), []).append(arm)
    savings = []
    for (use, workload, scheme), of_scheme in groups.items():
        lone = [arm.seed for arm in of_scheme if (use, workload, arm.seed) not in baseline]
        if lone:
            raise ValueError(f"{workload} ran with {scheme}, and never without it with the seed {lone[0]}")
        savings.append(_saving(of_scheme, [baseline[use, workload, arm.seed] for arm in of_scheme]))
    return savings


def _saving(arms: Sequence[Arm], without: Sequence[Arm]) -> Saving:
    pairs = list(zip(without, arms, strict=True))
    return Saving(
        arms[0].use,
        arms[0].workload,
        arms[0].scheme,
        rss_saved=tuple(1 - b.rss / a.rss for a, b in pairs),
        used_saved=tuple(1 - b.used / a.used for a, b in pairs),
        slowdown=tuple(b.cost.own_per_work / a.cost.own_per_work - 1 for a, b in pairs),
        kdamond=tuple(arm.cost.kdamond / arm.cost.window_ns for arm in arms),
        arms=tuple(arms),
        baseline=tuple(without),
    )


def middle(values: Sequence[float]) -> float:
    """Return the median of the values; NaN without any."""
    return float(np.median(values)) if len(values) else float("nan")

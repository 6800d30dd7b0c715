# SPDX-License-Identifier: GPL-2.0
"""A running monitoring context: what ``struct damon_ctx`` holds (specification §1.1, §2.1)."""

from __future__ import annotations

import errno
from dataclasses import dataclass

import numpy as np

from damon_tests.damon.params import U32_MAX, DamonAttrs, DamonCtx, DamonProbe
from damon_tests.ports import page_size
from damon_tests.ports.arrays import I64, U64
from damon_tests.reference.core.regions import Regions, cut_to_limit
from damon_tests.reference.core.schemes import Scheme
from damon_tests.reference.machine.process import Process
from damon_tests.reference.rules.errors import CoreError, invalid
from damon_tests.reference.rules.monitoring import BP, align_up
from damon_tests.reference.rules.ruleset import Rules


@dataclass(eq=False)
class Target:
    """A monitored address space: a process, or physical memory (``process`` None)."""

    pid: int
    process: Process | None


class Context:
    """State of one kdamond. Counted in samples: ``passed``, ``next_aggr``, ``next_update``, ``next_tune``."""

    def __init__(self, rules: Rules, rng: np.random.Generator, params: DamonCtx) -> None:
        self.rules = rules
        self.rng = rng
        self.operations = params.operations
        self.addr_unit = params.addr_unit
        self.attrs = params.attrs
        self.pause = params.pause
        self.targets: list[Target] = []
        self.regions = Regions.of_ranges([])
        self.schemes: list[Scheme] = []
        self.passed = 0
        self.next_aggr = self.next_update = self.next_tune = 0
        self.aggr_samples = rules.samples_in(params.attrs.aggr_us, params.attrs.sample_us)
        self.merge_limit = 0  # before rounding up; what merging may not exceed
        self.corrupted = False
        self.sampled: U64 = np.zeros(0, np.uint64)
        self.prepared_ns = 0

    @property
    def min_region_sz(self) -> int:
        return min_region_size(self.operations, self.addr_unit)

    @property
    def probes(self) -> tuple[DamonProbe, ...]:
        return self.attrs.probes

    @property
    def weights(self) -> tuple[int, ...]:
        """Weights of the probes; any that is not zero replaces access checks by probes."""
        return self.rules.probe_weights([probe.weight for probe in self.attrs.probes])

    @property
    def has_watermarks(self) -> bool:
        """Whether a scheme may become inactive; else no activation is waited for."""
        return any(scheme.params.watermarks.metric != "none" for scheme in self.schemes)

    def samples(self, interval_us: int) -> int:
        """Return an interval in samples of the present sampling interval."""
        return self.rules.samples_in(interval_us, self.attrs.sample_us)

    @property
    def window(self) -> int:
        """Samples in an aggregation: the largest nr_accesses."""
        return self.samples(self.attrs.aggr_us)

    def start_counting(self) -> None:
        """Do what a kdamond does before its first iteration."""
        self.passed = 0
        self.next_aggr = self.window
        self.next_update = self.samples(self.attrs.update_us)
        self.next_tune = self.next_aggr * self.attrs.intervals_goal.aggrs
        for scheme in self.schemes:
            scheme.schedule(self.passed, self.samples, self.attrs.aggr_us)

    def set_target_regions(self, target: int, regions: Regions) -> None:
        """Replace the regions of one target."""
        others = [self.regions.of_target(t) for t in range(len(self.targets)) if t != target]
        parts = [*others[:target], regions, *others[target:]]
        self.regions = Regions.concat(parts)

    def compute_merge_limit(self) -> None:
        self.merge_limit = self.rules.merge_size_limit(
            self.regions.total_size(), self.attrs.min_nr_regions, self.min_region_sz
        )

    def enforce_min_regions(self) -> None:
        """Cut regions so that at least about min_nr_regions exist; the limit is rounded up (§2.6)."""
        self.compute_merge_limit()
        if self.rules.strict_min_regions:
            self.merge_limit = align_up(self.merge_limit, self.min_region_sz)
            self.regions = cut_to_limit(self.regions, self.merge_limit)

    def access_values(self, regions: Regions) -> I64:
        """Return the access frequency of each region as users and schemes see it."""
        left = max(0, self.next_aggr - self.passed)
        return self.rules.access_value(
            regions.nr_accesses,
            regions.last_nr_accesses,
            regions.nr_accesses_bp,
            left,
            max(self.window, 1),
        )

    def probe_values(self, regions: Regions) -> I64:
        """Return the probe hits as users see them, shape (n, 4): always the moving value, 8 bits wide."""
        left_bp = max(0, self.next_aggr - self.passed) * BP // max(self.window, 1)
        moving = regions.probe_hits + regions.last_probe_hits * left_bp // BP
        return moving & 0xFF


def min_region_size(operations: str, addr_unit: int) -> int:
    """Return the minimum region size in core address units: one page, which only paddr scales by
    ``addr_unit``."""
    return max(page_size() // addr_unit, 1) if operations == "paddr" else page_size()


def check_attrs(attrs: DamonAttrs) -> None:
    """Refuse monitoring attributes as the core does (§1.5). Raises CoreError EINVAL."""
    if attrs.min_nr_regions < 3:
        raise invalid("nr_regions/min must be at least 3")
    if attrs.min_nr_regions > attrs.max_nr_regions:
        raise invalid("nr_regions/min is larger than nr_regions/max")
    if attrs.sample_us > attrs.aggr_us:
        raise invalid("sample_us is larger than aggr_us")
    goal = attrs.intervals_goal
    if goal.aggrs and not goal.min_sample_us <= attrs.sample_us <= goal.max_sample_us:
        raise invalid("intervals_goal needs min_sample_us <= sample_us <= max_sample_us")


def check_weights(attrs: DamonAttrs, rules: Rules) -> None:
    """Refuse weights beyond the width of probe hits (8 bits) and of their sum (32). Raises CoreError
    EINVAL."""
    window = rules.samples_in(attrs.aggr_us, attrs.sample_us)
    weights = [probe.weight for probe in attrs.probes]
    if any(weights) and (window > 255 or sum(w * window for w in weights) > U32_MAX):
        raise invalid("probe weights need at most 255 samples per aggregation and a 32-bit weighted sum")


def no_memory(why: str) -> CoreError:
    """Return the ENOMEM that stands for every failure while a scheme is built."""
    return CoreError(errno.ENOMEM, why)

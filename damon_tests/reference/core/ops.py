# SPDX-License-Identifier: GPL-2.0
"""Operations sets: how a context finds its memory and checks accesses to it (specification §3)."""

from __future__ import annotations

import numpy as np

from damon_tests.ports import page_size
from damon_tests.ports.arrays import I64, U64, Bools
from damon_tests.ports.ranges import Range
from damon_tests.reference.core.actions import Actions, Application
from damon_tests.reference.core.context import Context, Target
from damon_tests.reference.core.probes import probe_passes
from damon_tests.reference.core.regions import Regions, divide, set_ranges
from damon_tests.reference.machine.memory import Memory
from damon_tests.reference.rules.ruleset import Rules


class Operations:
    """What all sets share: choose a random address in each region, count accesses found there."""

    name: str

    def __init__(self, memory: Memory) -> None:
        self.memory = memory

    def init(self, ctx: Context) -> None:
        """Build the regions of targets that have none (vaddr only)."""

    def update(self, ctx: Context) -> None:
        """Follow changes of the memory layout (vaddr only)."""

    def any_valid(self, ctx: Context) -> bool:
        """Whether a target is left to monitor."""
        return True

    def target_valid(self, target: Target) -> bool:
        return True

    def prepare(self, ctx: Context, now_ns: int) -> None:
        """Choose a new sampling address in every region; accesses count from now on."""
        regions = ctx.regions
        fractions = ctx.rng.random(len(regions))
        ctx.sampled = regions.start + ctx.rules.sample_offset(fractions, regions.float_sizes)
        ctx.prepared_ns = now_ns

    def complete(self, ctx: Context) -> None:
        """Complete the counters of an aggregation (only live operations have samples to make up for)."""

    def check(self, ctx: Context, now_ns: int) -> None:
        """Count the regions whose sampled page was accessed since ``prepare``."""
        regions, rules = ctx.regions, ctx.rules
        t0_ns, t1_ns = rules.check_window(ctx.prepared_ns, now_ns)
        hits = rules.observed(self.accessed(ctx, t0_ns, t1_ns))
        regions.nr_accesses += hits
        if rules.step_bp is not None:
            regions.nr_accesses_bp = rules.step_bp(
                regions.nr_accesses_bp, regions.last_nr_accesses, ctx.window, hits
            )

    def accessed(self, ctx: Context, t0_ns: int, t1_ns: int) -> Bools:
        raise NotImplementedError

    def apply_probes(self, ctx: Context, by_probes: bool, now_ns: int) -> None:
        """Ask the probes about the sampled page of each region (paddr only)."""

    def apply(self, app: Application, target: Target, rules: Rules) -> tuple[int, int]:
        """Apply a scheme's action to a region; return (bytes applied, bytes that passed the page filters)."""
        raise NotImplementedError


class VirtualOperations(Operations):
    """``vaddr``: the mapped address space of processes. ``fvaddr``: given ranges of it, never updated."""

    def __init__(self, memory: Memory, name: str) -> None:
        super().__init__(memory)
        self.name = name
        self.follows_layout = name == "vaddr"

    def target_valid(self, target: Target) -> bool:
        process = target.process
        return process is not None and self.memory.processes.get(target.pid) is process

    def any_valid(self, ctx: Context) -> bool:
        valid = ctx.rules.target_is_valid
        return any(valid(self.target_valid(target)) for target in ctx.targets)

    def init(self, ctx: Context) -> None:
        if not self.follows_layout:
            return
        for index, target in enumerate(ctx.targets):
            ranges = self._three_ranges(ctx, target)
            if len(ctx.regions.of_target(index)) or ranges is None:
                continue
            regions = set_ranges(Regions.of_ranges([]), ranges, ctx.min_region_sz, index, ctx.rules)
            if regions is not None:
                if not ctx.rules.strict_min_regions:
                    regions = divide_evenly(regions, ctx.attrs.min_nr_regions, ctx.min_region_sz)
                ctx.set_target_regions(index, regions)

    def update(self, ctx: Context) -> None:
        if not self.follows_layout:
            return
        for index in ctx.rules.updated_targets(len(ctx.targets)):
            ranges = self._three_ranges(ctx, ctx.targets[index])
            if ranges is None:
                continue
            regions = set_ranges(ctx.regions.of_target(index), ranges, ctx.min_region_sz, index, ctx.rules)
            if regions is not None:
                ctx.set_target_regions(index, regions)

    def _three_ranges(self, ctx: Context, target: Target) -> list[Range] | None:
        if not self.target_valid(target) or target.process is None:
            return None
        return ctx.rules.three_ranges(target.process.vmas)

    def accessed(self, ctx: Context, t0_ns: int, t1_ns: int) -> Bools:
        pages = page_numbers(ctx.sampled)
        if len(ctx.targets) == 1:
            return self._target_accessed(ctx, ctx.targets[0], pages, t0_ns, t1_ns)
        hits = np.zeros(len(pages), np.bool_)
        bounds = ctx.regions.bounds(len(ctx.targets))
        for index, target in enumerate(ctx.targets):
            mine = slice(bounds[index], bounds[index + 1])
            hits[mine] = self._target_accessed(ctx, target, pages[mine], t0_ns, t1_ns)
        return hits

    def _target_accessed(self, ctx: Context, target: Target, pages: I64, t0_ns: int, t1_ns: int) -> Bools:
        if target.process is None or not self.target_valid(target):
            return np.zeros(len(pages), np.bool_)
        if ctx.rules.through_other_mappings:
            return target.process.accessed_by_anybody(pages, t0_ns, t1_ns)
        hits = target.process.accessed(pages, t0_ns, t1_ns)
        return hits if ctx.rules.of_shared_memory else hits & ~target.process.are_shared(pages)

    def prepare(self, ctx: Context, now_ns: int) -> None:
        super().prepare(ctx, now_ns)
        if self.memory.tracks_young:
            for index, target in enumerate(ctx.targets):
                if target.process is not None:
                    pages = page_numbers(ctx.sampled[ctx.regions.target == index])
                    self.memory.note_cleared(target.process.frames_of(pages), now_ns)

    def apply(self, app: Application, target: Target, rules: Rules) -> tuple[int, int]:
        if target.process is None:
            return 0, 0
        return Actions(self.memory, rules).apply_virtual(app, target.process)


class PhysicalOperations(Operations):
    """``paddr``: physical memory; a frame is accessed when the page in it is."""

    name = "paddr"

    def accessed(self, ctx: Context, t0_ns: int, t1_ns: int) -> Bools:
        every = ctx.rules.through_all_mappings
        return self.memory.frames_accessed(self._frames(ctx), t0_ns, t1_ns, all_mappings=every)

    def _frames(self, ctx: Context) -> I64:
        return page_numbers(ctx.rules.in_bytes(ctx.sampled, ctx.addr_unit))

    def prepare(self, ctx: Context, now_ns: int) -> None:
        super().prepare(ctx, now_ns)
        if self.memory.tracks_young:
            self.memory.note_cleared(self._frames(ctx), now_ns)

    def apply(self, app: Application, target: Target, rules: Rules) -> tuple[int, int]:
        return Actions(self.memory, rules).apply_physical(app)

    def apply_probes(self, ctx: Context, by_probes: bool, now_ns: int) -> None:
        if not ctx.probes:
            return
        if by_probes:  # no access check chose a page
            super().prepare(ctx, now_ns)
        frames = self._frames(ctx)
        for number, probe in enumerate(ctx.probes):
            passed = probe_passes(self.memory, frames, probe, ctx.rules, now_ns)
            column = ctx.regions.probe_hits[:, number]
            column[:] = (column + passed) & 0xFF


def page_numbers(addresses: U64) -> I64:
    """Return the page (or frame) of each byte address."""
    # A shift takes half of a division's time; 52 bits are positive in both types.
    pages: I64 = (addresses >> np.uint64(page_size().bit_length() - 1)).view(np.int64)
    return pages


def divide_evenly(regions: Regions, min_nr_regions: int, min_region_sz: int) -> Regions:
    """Divide the first layout as 7.0 and older do: ranges in equal pieces, about min_nr_regions in all."""
    piece = max(regions.total_size() // max(min_nr_regions, 1), min_region_sz)
    counts, sizes = [], []
    for size in regions.sizes.tolist():
        nr = max(size // piece, 1)
        counts.append(nr)
        sizes.append(size // nr & ~(min_region_sz - 1))
    return divide(regions, np.array(counts, np.int64), np.array(sizes, np.uint64))


def make_operations(name: str, memory: Memory) -> Operations:
    """Return the set of that name; the tree accepts no other name."""
    if name == "paddr":
        return PhysicalOperations(memory)
    return VirtualOperations(memory, name)

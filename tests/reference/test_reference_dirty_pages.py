# SPDX-License-Identifier: GPL-2.0
"""Reclaim leaves dirty pages of files, which others write back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from reference_support import HEAP, MIB, Box, HotTruth

from damon_tests.damon.params import ANY, DamonTarget, Damos
from damon_tests.experiment.simulated_memory import simulated_pages
from damon_tests.patterns.spec import Access, Action, Pattern, PatternRegion, Phase
from damon_tests.reference.faults.catalogue import fault
from damon_tests.reference.rules.ruleset import Rules
from damon_tests.workload.simulated import SimulatedTarget

FILE = (HEAP + 64 * MIB, HEAP + 72 * MIB)
DIRTY = (HEAP + 64 * MIB, HEAP + 66 * MIB)


@pytest.mark.parametrize("operations", ["paddr", "fvaddr"])
@pytest.mark.parametrize("wrong", ["", "pageout_takes_dirty_pages"])
def test_dirty_pages_are_not_reclaimed(operations, wrong):
    box = Box(8 * MIB, rules=fault(wrong).apply(Rules()) if wrong else None)
    pid = box.system.add_process([FILE], HotTruth([FILE], ()), file=[FILE], dirty=[DIRTY])
    targets = (DamonTarget(pid, (FILE,)),)
    if operations == "paddr":
        targets = (DamonTarget(0, tuple(box.system.ram_ranges())[1:]),)
    ctx = box.ctx(operations=operations, targets=targets)
    box.start(replace(ctx, schemes=(Damos("pageout", ANY),)))
    box.run(1)
    present = simulated_pages(box.system, pid, *FILE).present
    assert present[512:].sum() == 0
    assert present[:512].sum() == (0 if wrong else 512)


def test_written_file_pages_of_a_pattern_are_dirty():
    """Populated or written, not written back, of files that something is said about."""
    regions = (
        PatternRegion("used", 8 * MIB, memory="file"),
        PatternRegion("lazy", 8 * MIB, memory="file", populate=False),
        PatternRegion("other", 8 * MIB, memory="file"),
    )
    actions = tuple(Action("msync", 0, name, MIB, 7 * MIB) for name in ("used", "lazy"))
    accesses = (Access("used", 4 * MIB, 5 * MIB), Access("used", 5 * MIB, 6 * MIB, kind="read"))
    pattern = Pattern("p", "r", regions, (Phase("one", 10**9, accesses, actions),))
    target = SimulatedTarget(pattern, 1, 2, None, Box(MIB).clock)
    base = target.layout["used"][0]
    assert target.dirty == tuple((base + a * MIB, base + b * MIB) for a, b in ((0, 1), (4, 5), (7, 8)))

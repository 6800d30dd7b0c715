# SPDX-License-Identifier: GPL-2.0
"""Actions leave mlock()ed memory alone, and count it as the kernel does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from reference_support import HEAP, MIB, Box, HotTruth

from damon_tests.damon.params import ANY, DamonTarget, Damos
from damon_tests.experiment.simulated_memory import simulated_pages
from damon_tests.ports import page_size
from damon_tests.reference.faults.catalogue import fault
from damon_tests.reference.rules.ruleset import Rules

LOCKED = (HEAP + 64 * MIB, HEAP + 72 * MIB)


def box_with_lock(rules=None):
    """A process with 8 MiB of memory, and one with 8 MiB of locked memory."""
    box = Box(8 * MIB, rules=rules)
    box.locker = box.system.add_process([LOCKED], HotTruth([LOCKED], ()), locked=[LOCKED])
    return box


def gone(box):
    """Bytes that are not in memory: of the first process, of the one with locked memory."""
    pages = [simulated_pages(box.system, box.pid, HEAP, HEAP + 8 * MIB)]
    pages.append(simulated_pages(box.system, box.locker, *LOCKED))
    assert pages[1].unevictable.sum() == pages[1].present.sum()
    assert not pages[0].unevictable.any()
    return [int((~p.present).sum()) * page_size() for p in pages]


@pytest.mark.parametrize("operations", ["paddr", "fvaddr"])
@pytest.mark.parametrize("wrong", ["", "pageout_takes_locked_pages"])
def test_locked_memory_is_not_reclaimed(operations, wrong):
    box = box_with_lock(fault(wrong).apply(Rules()) if wrong else None)
    targets = (DamonTarget(box.pid, ((HEAP, HEAP + 8 * MIB),)), DamonTarget(box.locker, (LOCKED,)))
    if operations == "paddr":
        targets = (DamonTarget(0, tuple(box.system.ram_ranges())[1:]),)
    ctx = box.ctx(operations=operations, targets=targets)
    box.start(replace(ctx, schemes=(Damos("pageout", ANY),)))
    box.run(1)
    assert gone(box) == [8 * MIB, 8 * MIB if wrong else 0]
    stats = box.client.stats(0, 0)
    if operations == "paddr":
        assert stats.sz_applied == (16 if wrong else 8) * MIB
    else:
        assert stats.sz_applied == stats.sz_tried // (1 if wrong else 2)

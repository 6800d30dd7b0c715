# SPDX-License-Identifier: GPL-2.0
"""Places of the reference that a mutant changed without any test or suite noticing it (``mutants.py``)."""

from __future__ import annotations

import errno

import numpy as np
import pytest
from reference_support import HEAP, MIB, STAT_ALL, Box, heap, under_test, with_quota
from test_reference_batch import context_rng

from damon_tests.damon import trace
from damon_tests.damon.params import DamonAttrs, Damos, DamosFilter
from damon_tests.ports import TreeError
from damon_tests.reference.core.batch import Batch
from damon_tests.reference.machine.process import Process
from damon_tests.reference.rules.levels import LEVELS


@pytest.mark.parametrize("level", ["6.16", "7.2"])
def test_value_in_mid_window_is_rescaled_by_a_commit(level):
    """7.2 and older keep the users' value in 1/10000; new intervals rescale it with the counters."""
    box = Box(4 * MIB, hot=[(HEAP, HEAP + 4 * MIB)], level=level)
    scheme = Damos("stat", STAT_ALL.access_pattern, apply_interval_us=5_000)
    slow, fast = (DamonAttrs(5_000, us, min_nr_regions=10, max_nr_regions=20) for us in (100_000, 50_000))
    box.start(box.fvaddr(attrs=slow, schemes=(scheme,)))
    box.run(0.33)
    box.commit(box.fvaddr(attrs=fast, schemes=(scheme,)))
    box.run(0.01)
    regions = box.client.tried_regions(0, 0).regions
    assert len(regions)
    assert set(regions.nr_accesses.tolist()) <= {9, 10, 11}  # of ten samples, each with an access


def test_unmapped_memory_is_free_again():
    box = Box(8 * MIB)
    box.run(0.01)
    used = box.system.memory.used_pages()
    box.system.set_vmas(box.pid, [(HEAP, HEAP + 2 * MIB)])
    assert used - box.system.memory.used_pages() == 6 * MIB // 4096


def test_each_replica_begins_its_partial_splits_with_its_own_first_region():
    box = Box(8 * MIB)
    process = Process(box.pid, heap(8 * MIB), box.truth)
    batch = Batch(under_test(LEVELS["7.3"].rules), box.fvaddr(), [process], 2, context_rng(box))
    replica, steps = np.repeat([0, 1], 5), np.array([3, 3])
    for first in range(3):
        chosen = batch._rotated(replica, steps)
        wanted = [i % 3 == first for i in range(5)]
        assert chosen.tolist() == wanted * 2


@pytest.mark.parametrize(("end", "refused"), [(HEAP + 4096, False), (HEAP + 8192, False), (HEAP, True)])
def test_address_filter_may_be_empty_but_not_reversed(end, refused):
    box = Box(8 * MIB)
    empty = DamosFilter("addr", matching=True, addr_start=HEAP + 4096, addr_end=end)
    ctx = box.fvaddr(schemes=(Damos("stat", STAT_ALL.access_pattern, filters=(empty,)),))
    if not refused:
        box.start(ctx)
        return
    with pytest.raises(TreeError) as error:
        box.start(ctx)
    assert error.value.errno == errno.ENOMEM


@pytest.mark.parametrize("level", ["6.18", "7.1", "7.3"])
def test_window_continues_behind_several_regions(level):
    """The second window skips all regions that the first one tried, not only the first of them."""
    box = Box(32 * MIB, level=level)
    attrs = DamonAttrs(5_000, 100_000, min_nr_regions=20, max_nr_regions=60)
    box.start(box.fvaddr(attrs=attrs))
    box.run(1)  # until there are many regions
    box.commit(box.fvaddr(attrs=attrs, schemes=(with_quota(bytes=12 * MIB, reset_interval_ms=100),)))
    starts: list[int] = []
    for event in box.record(0.55, "damos_before_apply"):
        (parsed,) = trace.parse_events([event])
        starts.append(parsed.start)
    in_order = starts[: starts.index(max(starts))]
    assert len(in_order) > 5
    assert in_order == sorted(in_order)  # a window that began anew would go back


def test_tried_region_behind_the_last_one_is_not_there():
    box = Box(8 * MIB)
    box.start(box.fvaddr(schemes=(STAT_ALL,)))
    box.run(0.2)
    count = len(box.client.tried_regions(0, 0).regions)
    assert count
    with pytest.raises(TreeError) as error:
        box.tree.read(box.ctx_path(f"schemes/0/tried_regions/{count}/start"))
    assert error.value.errno == errno.ENOENT

# SPDX-License-Identifier: GPL-2.0
"""Where the engine puts regions, and memory that it maps twice."""

from __future__ import annotations

import os

import pytest
from engine_starter import Starter

from damon_tests.kernel.host.machine import LocalMachine
from damon_tests.patterns.load import parse
from damon_tests.workload.layout import plan_layout
from damon_tests.workload.pages import read_pages

PLACED = """
reason: regions at exact distances, one of which is mapped twice
regions:
  - {name: low, size: 12 KiB, gap: 20 TiB}
  - {name: shared, size: 64 KiB, memory: shmem, gap: 4 KiB}
  - {name: again, size: 32 KiB, memory: shmem, gap: 3 GiB, same_as: shared, populate: false}
phases: [{name: p, duration: 1 s, accesses: [{region: again, period: 2 ms}]}]
"""


def test_regions_are_placed_exactly_their_gaps_apart(start: Starter) -> None:
    target = start(PLACED)
    low, shared, again = (target.layout[name] for name in ("low", "shared", "again"))
    assert shared[0] - low[1] == 20 << 40
    assert again[0] - shared[1] == 4 << 10
    planned = plan_layout(parse(PLACED))
    assert {n: e - s for n, (s, e) in planned.items()} == {n: e - s for n, (s, e) in target.layout.items()}
    assert planned["shared"][0] - planned["low"][1] == 20 << 40


def test_second_mapping_is_of_the_same_memory(start: Starter) -> None:
    target = start(PLACED)
    if os.geteuid() != 0:
        pytest.skip("page frames are shown to root only")
    target.go()
    start.run_until_phase(target, 0)
    machine = LocalMachine()
    frames = [read_pages(machine, target.pid, *target.layout[name]).frame for name in ("shared", "again")]
    mapped = frames[1] > 0
    assert mapped.any()
    assert (frames[1][mapped] == frames[0][: len(mapped)][mapped]).all()

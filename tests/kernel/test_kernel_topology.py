# SPDX-License-Identifier: GPL-2.0
"""What a guest can have: sizes that are possible, and a test's needs on what every guest has."""

from __future__ import annotations

import pytest

from damon_tests.kernel.guest.topology import Topology, parse_memory
from damon_tests.ports import UsageError


@pytest.mark.parametrize(
    "values",
    [
        {"memory_mib": 64},
        {"memory_mib": 256, "numa_nodes": 3},
        {"cpus": 0},
        {"numa_nodes": 0},
        {"swap_zram_mib": -1},
        {"hugetlb_pages": 300},
        {"packages": ("python3-numpy",)},
    ],
)
def test_impossible_topology_is_refused(values: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        Topology(**values)  # type: ignore[arg-type]


def test_topology_is_enlarged_to_what_every_guest_has() -> None:
    """The larger of both; parameters of the test come last, so that the kernel takes them."""
    usual = Topology(memory_mib=2048, cpus=1, numa_nodes=2, cmdline=("quiet", "psi=0"))
    wanted = Topology(memory_mib=1024, cpus=4, swap_zram_mib=64, cmdline=("psi=1",))
    assert wanted.on(usual) == Topology(
        memory_mib=2048, cpus=4, numa_nodes=2, swap_zram_mib=64, cmdline=("quiet", "psi=0", "psi=1")
    )


def test_memory_size_is_parsed_to_mib() -> None:
    assert [parse_memory(text) for text in ("2G", "512M", "1GiB", "768", "1 g")] == [
        2048,
        512,
        1024,
        768,
        1024,
    ]
    with pytest.raises(UsageError, match="no size of memory"):
        parse_memory("much")


def test_small_machine_stays_small_where_nobody_asks_for_more() -> None:
    """Tests of memory pressure and LRU sorting need machines that are smaller than usual."""
    small = Topology(memory_mib=160, cpus=1)
    assert small.on(Topology()) == small
    assert small.on(Topology(memory_mib=2048)) == Topology(memory_mib=2048, cpus=1)

# SPDX-License-Identifier: GPL-2.0
"""The width of unsigned long: known from the kernel asked for, and what the reference's files accept."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest

from damon_tests.damon.records import DamosStats
from damon_tests.experiment.kernel_request import KernelRequest
from damon_tests.judge.schemes import stats
from damon_tests.patterns.load import load
from damon_tests.ports import TreeError, UsageError
from damon_tests.ports.word import DEFAULT_WORD_BITS, set_word_bits, unsigned_long_max
from damon_tests.reference.sysfs.system import ReferenceSystem
from damon_tests.workload.layout import plan_layout, process_vmas

_BITS_32 = (1 << 32) - 1


@pytest.fixture(autouse=True)
def _usual_width() -> Iterator[None]:
    yield
    set_word_bits(DEFAULT_WORD_BITS)


@pytest.mark.parametrize(
    ("kernel", "bits"),
    [("reference", 64), ("debian:7.3", 64), ("debian:7.3@arm64-16k", 64), ("debian:6.12@armmp-lpae", 32)],
)
def test_width_is_known_from_the_kernel_asked_for(kernel: str, bits: int) -> None:
    KernelRequest(kernel).expect_machine()
    assert unsigned_long_max() == (1 << bits) - 1


def test_a_simulated_process_fits_into_a_32_bit_address_space() -> None:
    set_word_bits(32)
    idle = load("idle")
    vmas = process_vmas(idle, plan_layout(idle))
    assert vmas[-1][1] < 1 << 32
    assert all(end <= start for (_, end), (start, _) in pairwise(vmas))
    gaps = sorted((b[0] - a[1] for a, b in pairwise(vmas)), reverse=True)
    assert min(gaps[:2]) > 2 * gaps[2], "the two largest gaps are those around the pattern's regions"


def test_impossible_width_is_refused() -> None:
    with pytest.raises(UsageError, match="16 bits"):
        set_word_bits(16)


def test_files_of_a_32_bit_reference_refuse_larger_numbers() -> None:
    set_word_bits(32)
    tree = ReferenceSystem(level="7.3", seed=1).tree
    admin = "/sys/kernel/mm/damon/admin/kdamonds"
    tree.write(f"{admin}/nr_kdamonds", "1")
    tree.write(f"{admin}/0/contexts/nr_contexts", "1")
    sample = f"{admin}/0/contexts/0/monitoring_attrs/intervals/sample_us"
    tree.write(sample, str(_BITS_32))
    with pytest.raises(TreeError) as refused:
        tree.write(sample, str(_BITS_32 + 1))
    assert refused.value.errno_name == "ERANGE"
    assert tree.read(sample).strip() == str(_BITS_32)


def test_counters_of_bytes_begin_again_at_the_width_of_the_machine() -> None:
    tried, total = 579, 4 << 30
    counted = stats.Total(tried, total, tried, total)
    wrapped = DamosStats(tried, 0, tried, 0, 0, 0, 0)
    assert stats.differences(wrapped, counted)
    set_word_bits(32)
    assert not stats.differences(wrapped, counted)
    assert stats.differences(DamosStats(tried, 1, tried, 0, 0, 0, 0), counted)

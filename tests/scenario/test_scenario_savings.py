# SPDX-License-Identifier: GPL-2.0
"""Savings: what is run, in which order, and what is read of a process."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest

from damon_tests.experiment.kernel_request import KernelRequest
from damon_tests.experiment.open_backend import open_backend
from damon_tests.judge.cost.savings import BASELINE, compared
from damon_tests.patterns.load import load
from damon_tests.ports import UsageError
from damon_tests.scenario import savings
from damon_tests.scenario.savings import Plan, Workload, chosen, runs
from damon_tests.scenario.savings_patterns import PatternWorkload
from damon_tests.scenario.savings_uses import USES


def named(name: str) -> Workload:
    return PatternWorkload(load(name))


def test_each_run_follows_its_baseline_with_the_same_seed() -> None:
    plan = Plan(("hugepage",), (named("zipf"),), repeats=2, seed=5)
    order = [(work.name, scheme.name, seed) for _, work, scheme, seed in runs(plan, named)]
    assert order == [
        *(("zipf", "none", 5), ("zipf", "always", 5), ("zipf", "by access", 5)),
        *(("zipf", "none", 6), ("zipf", "always", 6), ("zipf", "by access", 6)),
    ]


@pytest.mark.parametrize("use", USES)
def test_first_scheme_of_a_use_is_the_baseline_and_counts_instructions(use: str) -> None:
    first, *others = USES[use].schemes
    assert first.name == BASELINE
    assert first.operations is None
    assert others
    assert all(scheme.name != BASELINE for scheme in others)
    assert all(scheme.topology.instructions for scheme in USES[use].schemes)


def test_all_uses_are_chosen_without_any_and_unknown_ones_refused() -> None:
    assert chosen(()) == tuple(USES)
    assert chosen(("tiering", "tiering")) == ("tiering",)
    with pytest.raises(UsageError, match="no such use of DAMON: speed; there are reclaim"):
        chosen(("speed",))


class Files:
    """A subject with files of the kernel."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files = files

    def kernel_file(self, path: str) -> str:
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.files[path]


def test_faults_are_read_whatever_the_name_of_the_process() -> None:
    stat = "7 (a (b) c) S 1 7 7 0 -1 4194560 1234 0 56 0 9 8 0 0 20 0"
    assert savings._faults(Files({"/proc/7/stat": stat}), 7) == (1234, 56)  # type: ignore[arg-type]


def test_far_bytes_are_those_on_the_other_node() -> None:
    maps = (
        "7f00 default anon=10 N0=4 N1=6 kernelpagesize_kB=4\n"
        "7f10 default huge anon=2 N1=2 kernelpagesize_kB=2048\n"
        "7f20 default file=/bin/x N0=3 kernelpagesize_kB=4\n"
    )
    subject = Files({"/proc/7/numa_maps": maps})
    assert savings._far_bytes(subject, 7) == 6 * 4096 + 2 * (2 << 20)  # type: ignore[arg-type]
    assert savings._far_bytes(Files({}), 7) == 0  # type: ignore[arg-type]


# --- on a kernel ---------------------------------------------------------------------------------


@pytest.mark.vm
def test_reclaim_saves_the_idle_mapping_and_does_not_slow_the_other_down(tmp_path: Path) -> None:
    plan = Plan(("reclaim",), (named("reclaim_me"),), repeats=3, settle_s=4, measure_s=2)
    with open_backend(KernelRequest("debian:7.3"), tmp_path) as backend:
        arms = [
            savings.run(backend, plan, use, work, scheme, seed)
            for use, work, scheme, seed in runs(plan, named)
        ]
    (saving,) = compared(arms)
    assert min(saving.rss_saved) > 0.6
    assert abs(median(saving.slowdown)) < 0.02  # single pairs of 2 s differ by up to 1 %
    assert all(0 < share < 0.1 for share in saving.kdamond)

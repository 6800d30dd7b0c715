# SPDX-License-Identifier: GPL-2.0
"""The cost of a workload: its own instructions with its page faults, not those of devices and of others."""

from __future__ import annotations

from pathlib import Path

import pytest

from damon_tests.experiment.kernel_request import KernelRequest
from damon_tests.experiment.open_backend import open_backend
from damon_tests.ports import HarnessError, NotSupported
from damon_tests.ports.cost import CallPath, CallTree, Cost, ThreadCost
from damon_tests.scenario import workload_cost

ENGINE = "exe"
PATHS = (
    CallPath((ENGINE, "[user]"), 1, 1_000),
    CallPath((ENGINE, "asm_exc_page_fault"), 2, 100, interrupt=True),
    CallPath((ENGINE, "asm_exc_page_fault", "handle_mm_fault"), 2, 50, interrupt=True),
    CallPath((ENGINE, "asm_sysvec_apic_timer_interrupt"), 1, 7_000, interrupt=True),
    CallPath((ENGINE, "asm_sysvec_call_function", "flush_tlb_func"), 4, 10, interrupt=True),
    CallPath(("kdamond.0", "kdamond_fn"), 1, 300),
    CallPath(("kdamond.0", "kdamond_fn", "flush_tlb_func"), 2, 20),
    CallPath(("agent", "read"), 1, 5_000),
)


def cost(tree: CallTree | None) -> Cost:
    return Cost("emulator", "instructions", 0, 0, 77, tree, {ENGINE: ThreadCost(1, 1)})


def test_page_faults_belong_to_the_workload_and_device_interrupts_do_not() -> None:
    measured = workload_cost.of_window(cost(CallTree(PATHS)), ENGINE, 5.0)
    assert measured.own == 1_150
    assert measured.own_per_work == 230
    assert measured.kdamond == 320
    assert measured.machine == 13_480
    assert measured.window_ns == 77


def test_flushes_of_all_threads_and_interrupts_count() -> None:
    measured = workload_cost.of_window(cost(CallTree(PATHS)), ENGINE, 1.0)
    assert (measured.tlb_flushes, measured.kdamond_flushes) == (6, 2)


def test_workload_that_did_not_run_is_an_error_that_names_who_did() -> None:
    with pytest.raises(HarnessError, match=rf"no thread redis\* ran .* {ENGINE}"):
        workload_cost.of_window(cost(CallTree(PATHS)), "redis", 1.0)


def test_time_is_no_call_tree() -> None:
    with pytest.raises(HarnessError, match="from emulator"):
        workload_cost.of_window(cost(None), ENGINE, 1.0)


def test_reference_counts_no_instructions(tmp_path: Path) -> None:
    with open_backend(KernelRequest("reference"), tmp_path) as backend:
        subject = backend.subject(1)
        with pytest.raises(NotSupported):
            workload_cost.measure(subject, ENGINE, lambda: 1.0)
        subject.close()

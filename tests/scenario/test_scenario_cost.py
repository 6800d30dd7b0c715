# SPDX-License-Identifier: GPL-2.0
"""Cost runs: constant regions, budgets for every series, planted costs."""

from __future__ import annotations

from pathlib import Path

import pytest
from module_from_file import load as load_module

from damon_tests.experiment.backend import Subject
from damon_tests.experiment.kernel_request import KernelRequest
from damon_tests.experiment.open_backend import open_backend
from damon_tests.judge.cost.budget import load, within_budget
from damon_tests.judge.cost.compare import by_function, compare
from damon_tests.judge.cost.samples import CostSamples, instructions
from damon_tests.ports import HarnessError, NotSupported
from damon_tests.ports.cost import CallPath, CallTree, Cost
from damon_tests.scenario import cost_setup as setup
from damon_tests.scenario.cost_catalogue import BENCHMARKS, Benchmark
from damon_tests.scenario.cost_runs import on_data

BUDGETS = Path(__file__).parents[2] / "suites" / "overhead" / "budgets.yaml"
MEASURED = ("6.12", "6.16", "6.17", "6.18", "6.19", "7.0", "7.1", "7.2", "7.3")


def cost() -> Cost:
    """Return four sampling intervals of ten regions: 100 instructions per check, 40 per interval besides."""
    paths = (
        CallPath(("kdamond_fn",), 0, 160),
        CallPath(("kdamond_fn", "damon_va_prepare_access_checks"), 4, 1000),
        CallPath(("kdamond_fn", "damon_va_check_accesses"), 4, 2000),
        CallPath(("kdamond_fn", "damon_va_check_accesses", "walk"), 40, 1000),
        CallPath(("kdamond_fn", "usleep_range_state", "schedule"), 8, 700),
        CallPath(("kdamond_fn", "asm_sysvec_apic_timer_interrupt"), 1, 5000, interrupt=True),
    )
    return Cost("emulator", "instructions", 4860, 8, 20_000_000, CallTree(paths))


def test_instructions_of_a_check_leave_out_sleep_and_interrupts() -> None:
    assert setup.per_check(cost(), 10) == 100


def test_rest_of_a_sampling_interval_is_neither_check_nor_sleep() -> None:
    assert setup.rest_per_sample(cost()) == 40


def test_tree_without_calls_is_refused() -> None:
    with pytest.raises(HarnessError, match="called none of damon_va_apply_scheme"):
        setup.nr_calls(setup.tree_of(cost()), setup.APPLY)


def test_cost_in_time_has_no_call_tree() -> None:
    with pytest.raises(HarnessError, match="the cost is from schedstat"):
        setup.tree_of(Cost("schedstat", "ns", 1, 1, 1))


def test_equal_regions_are_whole_pages() -> None:
    regions = setup.equal_regions(0x10000, 0x10000 + 10 * 4096, 3)
    assert regions == ((0x10000, 0x13000), (0x13000, 0x16000), (0x16000, 0x19000))
    with pytest.raises(HarnessError, match="too little for 3 regions"):
        setup.equal_regions(0, 4096, 3)


def test_reference_is_skipped_before_anything_runs(tmp_path: Path) -> None:
    def never(*_: object) -> object:
        raise AssertionError("a request was made")

    with (
        open_backend(KernelRequest("reference"), tmp_path) as backend,
        pytest.raises(NotSupported, match="cost of a kernel"),
        setup.watched(backend, setup.still(1 << 20), never, 1),  # type: ignore[arg-type]
    ):
        pass


def test_repeated_benchmarks_keep_every_sample() -> None:
    def measure(_: object, seed: int) -> list[CostSamples]:
        return [instructions("m", [seed])]

    (samples,) = Benchmark("b", "", measure, repeats=3).run(None, 5)  # type: ignore[arg-type]
    assert samples.values == (5, 6, 7)


def test_benchmarks_have_names_of_their_own() -> None:
    assert len({b.name for b in BENCHMARKS}) == len(BENCHMARKS)


ABSENT = {
    "action.pageout.": ("6.19", "7.0", "7.1"),
    "tuner.intervals.": ("6.12",),
    "tuner.quota": ("6.12", "6.16", "6.17"),
    "command.update_tuned_intervals": ("6.12",),
}
"""What series cannot do: page-out needs swap, which kernels without modules lack; 6.12 tunes no intervals;
below 6.18 the compiler left no function of the quota's tuner."""


def test_budgets_of_the_suite_cover_every_measured_series() -> None:
    """Each metric has a limit for each series, or the suite names it as not measured there yet."""
    unmeasured = load_module(BUDGETS.with_name("test_budgets.py")).WITHOUT_BUDGET
    for name, budget in load(BUDGETS).items():
        absent = next((series for start, series in ABSENT.items() if name.startswith(start)), ())
        for series in MEASURED:
            named = name.startswith(unmeasured.get(series, ()))
            limited = budget.of(series) is not None
            assert limited + named + (series in absent) == 1, (name, series)


# --- on a kernel ---------------------------------------------------------------------------------

TRACING = "/sys/kernel/tracing"


def trace_every_sample(subject: Subject) -> None:
    """Plant some 870 instructions in each call of a function: an event on its entry."""
    machine = subject.machine  # type: ignore[attr-defined]
    machine.write_file(f"{TRACING}/kprobe_events", b"p:planted damon_va_prepare_access_checks\n")
    machine.write_file(f"{TRACING}/events/kprobes/planted/enable", b"1\n")


@pytest.mark.vm
def test_planted_half_percent_is_dearer_and_equal_runs_are_the_same(tmp_path: Path) -> None:
    """80 regions of 2,171 instructions each, and 870 more for all of them, are 0.5 %."""
    count = 80

    def take(run: setup.Watched) -> dict[str, CostSamples]:
        costs = [run.cost(0.25) for _ in range(6)]
        values = [setup.per_check(cost, count) for cost in costs]
        return {"check": instructions("check", values, setup.checks_of(costs[-1]))}

    with open_backend(KernelRequest("debian:7.3"), tmp_path) as backend:
        request = on_data(nr_regions=count)
        with setup.watched(backend, setup.still(64 << 20), request, 1) as run:
            first, second = take(run), take(run)
            trace_every_sample(run.subject)
            planted = take(run)
    (same,), (dearer,) = compare(first, second), compare(second, planted)
    assert (same.outcome, dearer.outcome) == ("same", "dearer")
    assert 0.003 < dearer.change < 0.007
    names = {change.name for change in by_function(second["check"], planted["check"])}
    assert any("ring_buffer" in name or "rb_reserve" in name for name in names)


@pytest.mark.vm
def test_planted_three_percent_fail_the_budget_with_the_functions_that_do_it(tmp_path: Path) -> None:
    """12 regions of 2,171 instructions each, and 870 more for all of them, are 3.3 %."""
    count, budget = 12, load(BUDGETS)["check.fvaddr"]

    def take(run: setup.Watched) -> CostSamples:
        costs = [run.cost(0.25) for _ in range(3)]
        values = [setup.per_check(cost, count) for cost in costs]
        return instructions("check.fvaddr", values, setup.checks_of(costs[-1]))

    with open_backend(KernelRequest("debian:7.3"), tmp_path) as backend:
        request = on_data(nr_regions=count)
        with setup.watched(backend, setup.still(64 << 20), request, 1) as run:
            usual = within_budget(budget, take(run), "7.3")
            trace_every_sample(run.subject)
            planted = within_budget(budget, take(run), "7.3")
    assert usual.holds is True, usual.detail
    assert planted.holds is False, planted.detail
    dearer = planted.detail.partition("dearer than when the limit was set: ")[2].partition(";")[0]
    assert "ring_buffer" in dearer or "rb_reserve" in dearer or "kprobe" in dearer, planted.detail

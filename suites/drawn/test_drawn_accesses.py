# SPDX-License-Identifier: GPL-2.0
"""Drawn accesses: shared memory touched through another mapping, and rates between none, few and many."""

from dataclasses import replace

import numpy as np
import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.judge.monitoring.aggregation_windows import settled
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_SEC, NSEC_PER_USEC
from damon_tests.scenario.drawing import first_failure
from damon_tests.scenario.drawn_accesses import (
    draw_rates,
    draw_sharing,
    draw_sparse_pages,
    period_ns,
)
from damon_tests.scenario.invariants import invariants
from damon_tests.scenario.reference_bands import like_the_reference

pytestmark = [pytest.mark.accuracy, pytest.mark.needs("damon_aggregated")]

# A stall of a busy machine is shorter than half of such a sampling interval.
SHARING = DamonAttrs(sample_us=20_000, aggr_us=200_000, min_nr_regions=10, max_nr_regions=100)
RATES = DamonAttrs(sample_us=5_000, aggr_us=100_000, min_nr_regions=10, max_nr_regions=100)
SETTLED_NS = NSEC_PER_SEC // 2
"""For accessed bits from before monitoring began."""
PHASES, PHASE_NS = 3, 700 * NSEC_PER_MSEC
CASES = {"simulated": 60, "quick": 1, "full": 5}
SHRINKING = {True: 60, False: 6}


def first_failure_of(run_case, live, draws, draw, profile):
    """Run drawn cases until one fails; return what is wrong with it, shrunk, and how much was judged."""
    simulated = live.backend().simulated
    unkept = replace(live, keep=lambda observation: None)
    return first_failure(
        draws,
        CASES["simulated" if simulated else profile],
        draw,
        lambda case: run_case(unkept, case),
        lambda case: run_case(live, case),
        SHRINKING[simulated],
    )


def expect_none(expect, draws, wrong, judged, name, because):
    expect.nothing(name, wrong, because=because)
    m = Measurement(f"reports judged, of {draws.count} drawn cases", judged, "reports")
    expect.add(Check("closed form", m, "> 0", "without reports nothing is tested", True if judged else None))


def counts_within(run, span):
    """Return nr_accesses of all regions that lie wholly within the bytes, window by window."""
    start, end = span
    after_ns = run.recording().started_ns + SETTLED_NS
    snaps = [window.snapshot for window in settled(run.recording(), after_ns)]
    counts = [s.nr_accesses[(s.start >= start) & (s.end <= end)] for s in snaps]
    return [c for c in counts if len(c)]


def of_virtual_addresses(operations):
    def run_case(live, case):
        cover = "process" if operations == "vaddr" else "regions"
        with live(case.pattern(), DamonCtx(operations, attrs=SHARING), cover=cover) as run:
            run.record(1.2, aggregations=4)
        counts = counts_within(run, run.target.layout["watched"])
        most = max((int(c.max()) for c in counts), default=0)
        wrong = [f"{most} accesses through a mapping that nobody uses"] if most else []
        if case.through == "mapping" and operations == "fvaddr":
            wrong += missed(run, run.target.layout["again"])[0]
        checks = invariants(run)
        wrong += [f"{c.measurement.name}: {c.detail}" for c in checks if c.holds is False]
        # A region of vaddr may hold the mapping and idle memory around it: I25 judges it.
        return wrong, len(counts) + sum(c.invariant == "I25" for c in checks)

    return run_case


def missed(run, span=(0, 1 << 62)):
    """Return what is wrong with regions within the bytes, which are always in use; and the windows judged."""
    stalls = run.target.disturbances(SHARING.sample_us * NSEC_PER_USEC // 2)
    windows = [
        w
        for w in settled(run.recording(), run.recording().started_ns + SETTLED_NS)
        if not any(start < w.t1_ns and w.t0_ns < end for start, end in stalls)
    ]
    full, (start, end) = SHARING.samples_per_aggr, span
    snaps = [w.snapshot for w in windows]
    counts = [s.nr_accesses[(s.start >= start) & (s.end <= end)] for s in snaps]
    fewest = min((int(c.min(initial=full)) for c in counts), default=full)
    wrong = [f"{fewest} of {full} samples saw memory in use"] if fewest < full else []
    return wrong, len(windows)


def of_frames(live, case):
    with live(case.pattern(), DamonCtx("paddr", attrs=SHARING), cover="regions") as run:
        run.record(1.2, aggregations=4)
    return missed(run)


@pytest.mark.parametrize(
    "operations",
    [pytest.param(name, marks=pytest.mark.needs(f"ops.{name}")) for name in ("vaddr", "fvaddr")],
)
def test_memory_used_through_another_mapping_is_idle(live, draws, expect, request, operations):
    """Memory that is used only through another process, or through a second mapping, has no accesses in a
    monitored mapping of it."""
    profile = request.config.option.profile
    wrong, judged = first_failure_of(of_virtual_addresses(operations), live, draws, draw_sharing, profile)
    why = "addresses are monitored through the page table of their process, and only there (§3.4)"
    expect_none(expect, draws, wrong, judged, "drawn mappings with accesses of others", why)


@pytest.mark.needs("ops.paddr")
def test_frames_used_through_another_mapping_are_in_use(live, draws, expect, request):
    """Frames that are used through another process, or through a second mapping, have full counts."""
    profile = request.config.option.profile
    wrong, judged = first_failure_of(of_frames, live, draws, draw_sharing, profile)
    why = "physical memory is accessed through all its mappings (§3.5)"
    expect_none(expect, draws, wrong, judged, "drawn frames with fewer accesses", why)


def rate_deviations(run, case, least_share):
    """Return in which mappings and phases counts are not those of the drawn rate."""
    sample_ns, full = RATES.sample_us * NSEC_PER_USEC, RATES.samples_per_aggr
    wrong, judged = [], 0
    windows = settled(run.recording(), run.recording().started_ns + SETTLED_NS)
    stalls = run.target.disturbances(sample_ns // 2)
    for number, phase in enumerate(run.target.phases()[:PHASES]):
        until = phase.end_ns or run.clock.now_ns()
        inside = [
            w
            for w in windows
            if phase.start_ns + sample_ns <= w.t0_ns and w.t1_ns <= until
            if not any(a < w.t1_ns and w.t0_ns < b for a, b in stalls)
        ]
        for i, steps in enumerate(case.steps):
            start, end = run.target.layout[f"m{i}"]
            counts = [
                w.snapshot.nr_accesses[(w.snapshot.start >= start) & (w.snapshot.end <= end)] for w in inside
            ]
            counts = [c for c in counts if len(c)]
            if not counts:
                continue
            judged += len(counts)
            fewest, most = sum(int(c.min()) for c in counts), sum(int(c.max()) for c in counts)
            step = steps[number]
            # A pass is at either end of the windows, or not: one more, one less.
            passes = len(counts) * RATES.aggr_us * NSEC_PER_USEC / period_ns(step, sample_ns) if step else 0
            least = full * len(counts) if step == 1 else least_share * (passes - 1 - np.sqrt(passes))
            limit = {0: 0, 1: full * len(counts)}.get(step, 1.2 * passes + len(counts))
            if fewest < least or most > limit:
                wrong.append(
                    f"m{i}, phase {number}, every {step} samples: {fewest} to {most} accesses in"
                    f" {len(counts)} windows, {least:.0f} to {limit:.0f} expected"
                )
    return wrong, judged


def of_rates(live, case):
    simulated = live.backend().simulated
    pattern = case.pattern(RATES.sample_us * NSEC_PER_USEC, PHASE_NS)
    with live(pattern, DamonCtx("fvaddr", attrs=RATES), cover="regions") as run:
        run.record(len(case.steps[0]) * PHASE_NS / NSEC_PER_SEC)
    # What a pass leaves between a check and the next preparation is lost, on a kernel that works meanwhile.
    wrong, judged = rate_deviations(run, case, 0.9 if simulated else 0.5)
    wrong += [f"{c.measurement.name}: {c.detail}" for c in invariants(run) if c.holds is False]
    return wrong, judged


@pytest.mark.needs("ops.fvaddr")
def test_rates_between_none_few_and_many_are_reported(live, draws, expect, request):
    """Memory that changes between idle, touched once in 10 to 100 samples, and in use has the counts of its
    rate in each phase."""
    profile = request.config.option.profile
    wrong, judged = first_failure_of(of_rates, live, draws, lambda rng: draw_rates(rng, PHASES), profile)
    why = "a sample sees an access of the page since its last check, no more and no less (§2.3)"
    expect_none(expect, draws, wrong, judged, "drawn rates reported otherwise", why)


@pytest.mark.needs("ops.fvaddr")
def test_sparse_pages_are_reported_like_the_reference(experiment, draws, expect):
    """Where one of 10 to 100 pages is used, the reported rate is as the reference reports it."""
    for rng in draws(1):
        trial = experiment(
            draw_sparse_pages(rng), DamonCtx("fvaddr", attrs=RATES), seconds=3, cover="regions"
        )
        expect.add(invariants(trial.observe()))
        expect.add(like_the_reference(trial, ["rate bias", "regions"], after_s=1, replicas=40))

# SPDX-License-Identifier: GPL-2.0
"""Drawn address spaces: vaddr monitors exactly the mappings without their two largest gaps, before and after
the mappings of all targets change."""

from dataclasses import replace

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.judge import rule_limits
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_SEC
from damon_tests.scenario.drawing import first_failure
from damon_tests.scenario.drawn_layouts import draw_spaces
from damon_tests.scenario.invariants import invariants

pytestmark = pytest.mark.needs("ops.vaddr", "damon_aggregated")

ATTRS = DamonAttrs(sample_us=5_000, aggr_us=20_000, update_us=60_000, min_nr_regions=10, max_nr_regions=100)
CASES = {"simulated": 300, "quick": 2, "full": 8}
MOST_TARGETS = 6
EVERY_WHOLE = 10
"""Of simulated cases: all invariants are checked."""
STAYS_NS = {True: 100 * NSEC_PER_MSEC, False: 1500 * NSEC_PER_MSEC}
"""How long the mappings stay as they are at first, simulated or not: a guest starts six targets slowly."""
SHRINKING = {True: 100, False: 12}


def ranges_of(run):
    """Return, for each target, the three ranges of its mappings now."""
    spaces = [[vma for vma in run.subject.vmas(target) if vma[0] < 1 << 63] for target in run.targets]
    return [list(rule_limits.three_ranges(vmas) or ()) for vmas in spaces]


def windows_until_updated(attrs):
    """Return how many aggregations after a change may still have the old coverage."""
    samples = max(1, attrs.update_us // attrs.sample_us)
    return -(-(samples + 1) // attrs.samples_per_aggr)


def wrong_coverage(snaps, wanted, what):
    wrong = [s for s in snaps if list(rule_limits.covered(s)) != wanted]
    return [f"{what}: {list(rule_limits.covered(wrong[0]))} instead of {wanted}"] if wrong else []


def run_spaces(live, case, *, whole=True):
    """Monitor the case; return what is wrong, and how many reports were judged.

    ``whole``: check all invariants, too, which takes longer than the simulation.
    """
    simulated = live.backend().simulated
    patterns = case.patterns(STAYS_NS[simulated])
    with live(patterns, DamonCtx("vaddr", attrs=ATTRS)) as run:
        go_ns = run.target.phases()[0].start_ns
        before = ranges_of(run)
        run.record((go_ns + STAYS_NS[simulated] - run.clock.now_ns()) / NSEC_PER_SEC + 0.2, aggregations=10)
        after = ranges_of(run)
    changed = [target.phases()[1].start_ns for target in run.targets if len(target.phases()) > 1]
    if len(changed) < len(run.targets):
        return [], 0  # a stalled machine: some targets have not changed yet
    last_ns = max(changed)
    wrong, judged = [], 0
    for index in range(len(run.targets)):
        snaps = [s for s in run.recording().of_target(index) if s.complete]
        early = [s for s in snaps if s.time_ns < changed[index]]
        late = [s for s in snaps if s.time_ns > last_ns][windows_until_updated(ATTRS) :]
        judged += len(early) + len(late)
        wrong += wrong_coverage(early, before[index], f"target {index}, at first")
        wrong += wrong_coverage(late, after[index], f"target {index}, after its mappings changed")
    if whole:
        wrong += [f"{c.measurement.name}: {c.detail}" for c in invariants(run) if c.holds is False]
    return wrong, judged


def test_drawn_address_spaces_are_covered(live, draws, expect, request):
    """Wherever the gaps of a process are, vaddr leaves out its two largest ones, for each of several targets,
    and follows when the mappings of all targets change at once."""
    simulated = live.backend().simulated
    unkept = replace(live, keep=lambda observation: None)
    profile = "simulated" if simulated else request.config.option.profile

    def run_unkept(case):
        return run_spaces(unkept, case, whole=not simulated or draws.count % EVERY_WHOLE == 0)

    wrong, judged = first_failure(
        draws,
        CASES[profile],
        lambda rng: draw_spaces(rng, MOST_TARGETS),
        run_unkept,
        lambda case: run_spaces(live, case),
        SHRINKING[simulated],
    )
    why = "vaddr monitors the mappings without their two largest gaps (§3.1, I6)"
    expect.nothing("drawn address spaces monitored otherwise", wrong, because=why)
    m = Measurement(f"reports judged, of {draws.count} drawn cases", judged, "reports")
    expect.add(Check("invariant", m, "> 0", "without reports nothing is tested", True if judged else None))

# SPDX-License-Identifier: GPL-2.0
"""Check that a module monitors with the intervals and the number of regions that its parameters ask for."""

from __future__ import annotations

from dataclasses import replace

from damon_tests.damon.module_params import DamonLruSort, DamonReclaim
from damon_tests.judge.expect import Expect
from damon_tests.judge.modules.schemes import derived
from damon_tests.judge.monitoring.all_invariants import all_invariants
from damon_tests.judge.monitoring.report import Report
from damon_tests.judge.verdict import Measurement
from damon_tests.scenario.module_fixture import ModuleFixture

_SECONDS = 3.5


def attributes_follow_parameters(
    module: ModuleFixture, parameters: DamonReclaim | DamonLruSort, expect: Expect
) -> None:
    """Run ``parameters`` with slow intervals and few regions, and expect a report that shows both.

    ``parameters``: such that no scheme acts meanwhile. A module that uses its defaults samples more often
    than a busy machine could hide.
    """
    asked = replace(
        parameters, sample_interval=40_000, aggr_interval=400_000, min_nr_regions=30, max_nr_regions=50
    )
    with module(asked, "reclaim_me") as run:
        run.enable()
        run.run_for(_SECONDS)
        recording = run.recording()
        run.disable()
    ctx = derived(run.session.parameters, (), run.level)
    expect.add(all_invariants(recording, [Report(recording, ctx, run.level)]))
    counts = [float(len(s)) for s in recording.snapshots]
    m = Measurement("regions", max(counts, default=0), "regions", tuple(counts))
    expect.between(m, 2, 50, because="max_nr_regions limits the regions of all targets (I9)")
    highest = max((int(s.nr_accesses.max(initial=0)) for s in recording.snapshots), default=0)
    m = Measurement("largest nr_accesses", float(highest), "samples")
    expect.at_most(m, 10, because="an aggregation of 400 ms has 10 samples of 40 ms (I19)")

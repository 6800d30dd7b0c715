# SPDX-License-Identifier: GPL-2.0
"""tried_regions/: the regions of one pass of each scheme, as they were before the action."""

from dataclasses import replace

import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, Damos
from damon_tests.damon.series import Series
from damon_tests.judge.schemes import watched_passes
from damon_tests.judge.schemes.tried_regions import regions_of_one_pass
from damon_tests.judge.verdict import Measurement
from damon_tests.scenario.invariants import invariants
from damon_tests.scenario.watched_run import passes_of, read_tried_regions, watched

pytestmark = pytest.mark.needs(
    "ops.fvaddr",
    "schemes.stat",
    "schemes.apply_interval_us",
    "damon_aggregated",
    "damos_before_apply",
    "commands.update_schemes_tried_regions",
)

ATTRS = DamonAttrs(10_000, 100_000, min_nr_regions=5, max_nr_regions=20)
WATCHER = Damos("stat", ANY, apply_interval_us=50_000)
COLD = replace(ANY, nr_accesses_max=0)


def test_tried_regions_are_those_of_one_pass(live, expect):
    """Every scheme reports the regions that one pass tried, with
    access rates, ages before the action, and bytes."""
    schemes = (
        WATCHER,
        Damos("stat", replace(ANY, nr_accesses_min=1)),
        Damos("willneed", replace(COLD, age_min=1), apply_interval_us=50_000),
        Damos("stat", COLD, apply_interval_us=200_000),
        Damos("stat", replace(ANY, nr_accesses_min=200, nr_accesses_max=200)),
    )
    with watched(live, "hot_cold", DamonCtx("fvaddr", attrs=ATTRS, schemes=schemes)) as run:
        run.record(0.4, aggregations=4)
        answers = []
        for _ in range(4):
            answers.append(read_tried_regions(run.client, len(schemes)))
            run.record(0.03)
        run.record(0.3, aggregations=3)
    passes = passes_of(run)
    expect.add(invariants(run))
    expect.add(watched_passes.tried_as_asked(passes, run.ctx))
    expect.add(regions_of_one_pass(passes, answers, run.ctx, run.level))
    nothing = [len(answer.schemes[-1].regions) for answer in answers]
    m = Measurement(
        "regions of a scheme that matches none", max(nothing), "regions", tuple(map(float, nothing))
    )
    expect.equal(
        m, 0, because="the command returns and reports no region, as the scheme matches none (§4.11)"
    )


@pytest.mark.needs("tried_regions.total_bytes", "commands.update_schemes_tried_bytes")
def test_update_tried_bytes_reports_the_sum_without_regions(live, expect):
    """update_schemes_tried_bytes reports the bytes of one pass without the regions; clear removes both."""
    slow = DamonAttrs(20_000, 200_000, min_nr_regions=5, max_nr_regions=20)
    ctx = DamonCtx("fvaddr", attrs=slow, schemes=(Damos("stat", ANY), Damos()))
    with live("idle", ctx, cover="regions", source="none") as run:
        run.record(0.3)
        full = run.client.tried_regions(0, 0)
        kept = run.client.tried_regions(0, 0, update=False)
        sums = [run.client.tried_bytes(0, 0), run.client.tried_bytes(0, 1, update=False)]
        alone = run.client.tried_regions(0, 0, update=False)
        run.client.tried_regions(0, 0)
        run.client.command(0, "clear_schemes_tried_regions")
        cleared = run.client.tried_regions(0, 0, update=False)
    memory = sum(end - start for start, end in run.target.layout.values())
    for name, value in (("bytes tried with regions", full.total_bytes), ("bytes tried", sums[0])):
        # Before 6.15 a scheme that is not applied in time is given up: nothing is reported of it.
        waits = Series.of(run.level).waits_for_tried_regions
        wanted = 0 if value == 0 and not waits else memory
        why = "a pass tries all memory once (§8.3, 7)"
        expect.equal(Measurement(name, value, "bytes"), wanted, because=why)
    for name, value, wanted, why in (
        (
            "bytes tried by a scheme that matches nothing",
            sums[1],
            0,
            "the default access pattern matches nothing (§1.3)",
        ),
        (
            "regions shown after the bytes were asked for",
            len(alone.regions),
            0,
            "the command removes the regions shown before (§5.4)",
        ),
        ("regions shown after clear", len(cleared.regions), 0, "clear removes the results (§5.4)"),
        ("bytes shown after clear", cleared.total_bytes, 0, "clear removes the results (§5.4)"),
        (
            "regions still shown without an update",
            len(kept.regions),
            len(full.regions),
            "results change only by a command (I69)",
        ),
    ):
        expect.equal(Measurement(name, value, "count"), wanted, because=why)

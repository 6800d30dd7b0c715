# SPDX-License-Identifier: GPL-2.0
"""Limits under pressure: far more hot islands than regions are allowed, while drawn limits change."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, Damos
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.scenario.drawing import first_failure
from damon_tests.scenario.invariants import invariants

pytestmark = pytest.mark.needs(
    "ops.fvaddr", "damon_aggregated", "commands.commit", "commands.update_schemes_tried_regions"
)

ATTRS = DamonAttrs(min_nr_regions=3, aggr_us=50_000)
TWICE = Damos("stat", ANY, apply_interval_us=ATTRS.aggr_us // 2)
CASES = {"simulated": 12, "quick": 1, "full": 4}
UNLIMITED = 400
SETTLED = 2
"""Aggregations after a commit: the one that it falls into, and the first whole one, which merges."""
SHRINKING = {True: 30, False: 4}


@dataclass(frozen=True)
class Limits:
    """max_nr_regions of the request at start, and of the commits that follow."""

    values: tuple[int, ...]

    def simpler(self) -> Iterator["Limits"]:
        for i in range(len(self.values)):
            if len(self.values) > 1:
                yield Limits(self.values[:i] + self.values[i + 1 :])

    def __str__(self) -> str:
        return f"max_nr_regions {', then '.join(map(str, self.values))}"


def draw_limits(rng) -> Limits:
    return Limits(tuple(rng.choice((rng.randint(5, 50), rng.randint(5, 20), UNLIMITED)) for _ in range(4)))


def run_limits(live, case):
    """Run under each limit; return what is wrong, and how many reports have more than half of a limit."""
    first = DamonCtx("fvaddr", attrs=replace(ATTRS, max_nr_regions=case.values[0]), schemes=(TWICE,))
    wrong, pressed = [], 0
    with live("many_islands", first, cover="regions") as run:
        for number, limit in enumerate(case.values):
            if number:
                run.commit_attrs(replace(ATTRS, max_nr_regions=limit))
            run.record(0.5, aggregations=6)
            # Two passes in an aggregation: one of them comes between a split and the next merge.
            passes = [len(run.client.tried_regions(0, 0).regions) for _ in range(2)]
            if max(passes) > limit:
                wrong.append(f"{max(passes)} regions in a pass with max_nr_regions {limit}")
    for part, limit in zip(run.parts(), case.values, strict=False):
        counts = [len(s) for s in part.recording.snapshots if s.complete][SETTLED:]
        pressed += sum(2 * count > limit for count in counts)
        if counts and max(counts) > limit:
            wrong.append(f"{max(counts)} regions with max_nr_regions {limit}")
    wrong += [f"{c.measurement.name}: {c.detail}" for c in invariants(run) if c.holds is False]
    return wrong, pressed


def test_number_of_regions_follows_drawn_limits(live, draws, expect, request):
    """Of memory with 96 hot islands, max_nr_regions of 5 to 50 holds from the start and after each commit,
    whether it is lowered, raised or lowered again."""
    simulated = live.backend().simulated
    unkept = replace(live, keep=lambda observation: None)
    wrong, pressed = first_failure(
        draws,
        CASES["simulated" if simulated else request.config.option.profile],
        draw_limits,
        lambda case: run_limits(unkept, case),
        lambda case: run_limits(live, case),
        SHRINKING[simulated],
    )
    expect.nothing(
        "drawn limits exceeded", wrong, because="merging goes on until max_nr_regions holds (§2.5, I12)"
    )
    m = Measurement(f"reports with more than half of the limit, of {draws.count} cases", pressed, "reports")
    why = "islands differ in their accesses, and call for more regions than allowed; else nothing is tested"
    expect.add(Check("invariant", m, "> 0", why, True if pressed else None))

# SPDX-License-Identifier: GPL-2.0
"""What a scheme, a filter and a quota add to an aggregation: the requests that are compared differ in nothing
else, and the number of regions by which their cost is divided is constant."""

from dataclasses import replace

import pytest

from damon_tests.damon.params import DamonCtx, Damos, Kdamond
from damon_tests.experiment.live import live
from damon_tests.experiment.reference_backend import ReferenceBackend
from damon_tests.judge.cost.samples import instructions
from damon_tests.ports.cost import CallPath, CallTree, Cost
from damon_tests.scenario import cost_schemes
from damon_tests.scenario.cost_runs import MEMORY_MIB
from damon_tests.scenario.cost_setup import MIB, NR_REGIONS, SAMPLE_US, WARM_UP_S, still


@pytest.mark.parametrize(
    "schemes",
    [(), (cost_schemes._PLAIN,), (cost_schemes._FILTERED,), (cost_schemes._LIMITED,)],
    ids=["none", "scheme", "filter", "quota"],
)
@pytest.mark.parametrize("level", ["6.12", "7.3"])
def test_schemes_neither_split_nor_merge_regions(schemes: tuple[Damos, ...], level: str) -> None:
    ctx = request_of(level, schemes)
    assert ctx.schemes == schemes
    with live(ReferenceBackend(level), [still(MEMORY_MIB * MIB)], [Kdamond(ctx)], seed=1) as run:
        run.record(0.5)
    assert run.observation is not None
    snapshots = run.observation.recording.snapshots
    assert len(snapshots) > 50
    assert {len(snapshot) for snapshot in snapshots} == {NR_REGIONS}
    for report in run.observation.schemes:
        assert report.stats.nr_tried >= NR_REGIONS * 50
        assert report.stats.qt_exceeds == 0


def request_of(level: str, schemes: tuple[Damos, ...]) -> DamonCtx:
    backend = ReferenceBackend(level)
    subject = backend.subject(seed=1)
    target = subject.start_target(still(MEMORY_MIB * MIB), 1)
    try:
        return cost_schemes._with(schemes)(subject, target)
    finally:
        target.stop()
        subject.close()


@pytest.mark.parametrize("level", ["6.12", "7.3"])
def test_tuned_quota_limits_nothing_once_it_is_measured(level: str) -> None:
    """The tuner begins with a small quota, which cuts regions; after the warm-up the fixed quota counts."""
    ctx = request_of(level, (cost_schemes._TUNED,))
    with live(ReferenceBackend(level), [still(MEMORY_MIB * MIB)], [Kdamond(ctx)], seed=1) as run:
        run.record(WARM_UP_S)
        warm_ns, before = run.clock.now_ns(), run.client.stats(0, 0)
        run.record(0.5)
        after = run.client.stats(0, 0)
        effective = run.client.effective_bytes(0, 0)
    assert effective == cost_schemes._LIMITED.quota.bytes
    assert after.qt_exceeds == before.qt_exceeds
    assert run.observation is not None
    snapshots = [s for s in run.observation.recording.snapshots if s.time_ns > warm_ns]
    assert len(snapshots) > 50
    assert {len(snapshot) for snapshot in snapshots} == {NR_REGIONS}


def test_tuned_intervals_stay_as_they_are() -> None:
    goal, sample_us = cost_schemes._INTERVALS_GOAL, SAMPLE_US
    assert goal.min_sample_us == goal.max_sample_us == sample_us
    ctx = request_of("7.3", ())
    tuned = replace(ctx, attrs=replace(ctx.attrs, intervals_goal=goal))
    with live(ReferenceBackend("7.3"), [still(MEMORY_MIB * MIB)], [Kdamond(tuned)], seed=1) as run:
        run.record(1.0)
        assert run.client.tuned_intervals(0) == (sample_us, sample_us)


def test_cost_of_a_feature_is_the_difference_for_each_region(monkeypatch: pytest.MonkeyPatch) -> None:
    added = {"none": 0, "scheme": 80, "filter": 92, "quota": 130}
    asked: list[tuple[Damos, ...]] = []

    def windows(*_: object, **__: object) -> list[Cost]:
        name = list(added)[len(asked)]
        asked.append(())
        paths = (
            CallPath(("kdamond_fn",), 0, 10 * (5_000 + added[name] * NR_REGIONS)),
            CallPath(("kdamond_fn", "damon_va_check_accesses"), 10, 999),
        )
        return [Cost("emulator", "instructions", 0, 0, 1, CallTree(paths))] * 2

    monkeypatch.setattr(cost_schemes, "windows", windows)
    samples = cost_schemes.schemes(ReferenceBackend("7.3"))
    assert [(s.metric, s.values) for s in samples] == [
        (s.metric, s.values)
        for s in (
            instructions("scheme.region", [80, 80]),
            instructions("filter.region", [12, 12]),
            instructions("quota.region", [50, 50]),
        )
    ]

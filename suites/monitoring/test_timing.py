# SPDX-License-Identifier: GPL-2.0
"""Intervals are counted in samples: those of an aggregation, of a scheme's passes, of an answer."""

import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, Damos
from damon_tests.damon.series import Series
from damon_tests.damon.trace import StatEvent
from damon_tests.judge.monitoring.all_invariants import full_counts
from damon_tests.judge.monitoring.intervals_in_samples import interval_in_samples
from damon_tests.judge.monitoring.sampling_interval import sampling_interval
from damon_tests.judge.verdict import Measurement
from damon_tests.ports import NSEC_PER_USEC
from damon_tests.scenario.free_memory import held
from damon_tests.scenario.invariants import invariants

pytestmark = pytest.mark.needs("ops.fvaddr", "damon_aggregated")


# Numbers of samples that divide 10,000: of others 6.16 to 7.2 may warn, see test_merging.py.
@pytest.mark.parametrize(
    ("sample_us", "aggr_us"),
    [(6_000, 100_000), (5_000, 5_000), (20_000, 110_000)],
)
def test_aggregations_are_whole_samples(experiment, expect, sample_us, aggr_us):
    """An aggregation has aggr_us div sample_us samples, sample_us apart: memory always in use has that many
    accesses."""
    attrs = DamonAttrs(sample_us, aggr_us, min_nr_regions=10, max_nr_regions=50)
    trial = experiment("everything_hot", DamonCtx("fvaddr", attrs=attrs), seconds=2, cover="regions")
    observation = trial.observe()
    expect.add(invariants(observation))
    expect.add(full_counts(observation))
    expect.add(sampling_interval(observation))
    ends = [snapshot.time_ns for snapshot in observation.recording.of_target(0)]
    why = "an aggregation has aggr_us div sample_us samples (§2.1, I34)"
    expect.add(interval_in_samples("an aggregation", ends, observation, attrs.samples_per_aggr, why, "I34"))


@pytest.mark.needs("damos_stat_after_apply_interval", "schemes.apply_interval_us")
def test_apply_intervals_are_whole_samples(live, expect):
    """A scheme with an apply interval of 10 ms has exactly 10 passes for each of one with 100 ms."""
    attrs = DamonAttrs(min_nr_regions=10, max_nr_regions=50)
    schemes = (Damos("stat", ANY, apply_interval_us=10_000), Damos("stat", ANY, apply_interval_us=100_000))
    event = "damos_stat_after_apply_interval"
    ctx = DamonCtx("fvaddr", attrs=attrs, schemes=schemes)
    with live("hot_cold", ctx, cover="regions", source="events", extra_events=[event]) as run:
        run.record(2)
    expect.add(invariants(run))
    traced = [e for e in run.session.events(event) if isinstance(e, StatEvent)]
    for scheme_idx, samples in ((0, 2), (1, 20)):
        times = [e.time_ns for e in traced if e.scheme_idx == scheme_idx]
        apply_us = schemes[scheme_idx].apply_interval_us
        why = f"a scheme applied every {apply_us} µs is due every {samples} samples"
        name = f"the apply interval of scheme {scheme_idx}"
        expect.add(interval_in_samples(name, times, run.observation, samples, f"{why} (I35)", "I35"))
    order = [e.scheme_idx for e in traced]
    runs, count = [], 0
    for scheme in order:
        if scheme == 1:
            runs.append(count)
            count = 0
        else:
            count += 1
    m = Measurement(
        "passes of the first for one of the second",
        float(min(runs, default=0)),
        "count",
        tuple(map(float, runs)),
    )
    expect.equal(m, 10, because="one is due every 2 samples, the other every 20 (I35)")
    m = Measurement("most passes of the first for one of the second", float(max(runs, default=0)), "count")
    expect.equal(m, 10, because="one is due every 2 samples, the other every 20 (I35)")


@pytest.mark.needs("schemes.apply_interval_us")
def test_tried_bytes_grow_with_passes(live, expect):
    """A scheme that is applied ten times as often tries ten times the bytes."""
    attrs = DamonAttrs(min_nr_regions=10, max_nr_regions=50)
    schemes = (Damos("stat", ANY, apply_interval_us=10_000), Damos("stat", ANY, apply_interval_us=100_000))
    # 300 passes over 8 MiB are less than a counter of 32 bits holds.
    with live(held(8), DamonCtx("fvaddr", attrs=attrs, schemes=schemes), cover="regions") as run:
        run.record(3)
        run.client.command(0, "update_schemes_stats")
        tried = [run.client.stats(0, i, update=False).sz_tried for i in range(2)]
    passes = tried[1] / sum(e - s for s, e in run.target.layout.values())
    ratio = Measurement(
        "bytes tried every 10 ms for one tried every 100 ms", tried[0] / max(1, tried[1]), "fraction"
    )
    # Passes of the first between the last one of the second and the command: 0 to 9.
    expect.between(
        ratio,
        10,
        10 + 10 / max(1, passes),
        because="each pass tries all memory, and one scheme has ten times the passes (I35)",
    )


@pytest.mark.needs("schemes.stat")
@pytest.mark.parametrize("word", ["update_schemes_stats", "commit", "update_schemes_tried_regions"])
def test_commands_do_not_wait_for_aggregations(live, expect, word):
    """Since 6.15 a command is served after the next sample, not after the aggregation."""
    attrs = DamonAttrs(sample_us=50_000, aggr_us=4_000_000, min_nr_regions=10, max_nr_regions=50)
    scheme = Damos("stat", ANY, apply_interval_us=50_000)
    with live(
        "idle", DamonCtx("fvaddr", attrs=attrs, schemes=(scheme,)), cover="regions", source="none"
    ) as run:
        if not Series.of(run.level).serves_commands_at_next_sample:
            pytest.skip("before 6.15 requests are served after aggregations")
        run.record(0.3)
        took = []
        for _ in range(3):
            begin = run.clock.now_ns()
            run.client.command(0, word)
            took.append((run.clock.now_ns() - begin) / NSEC_PER_USEC)
            run.record(0.1)
    m = Measurement(f"slowest {word}", max(took), "µs", tuple(took))
    # Of three, two at least would wait for an aggregation of 4 s; half of one leaves 40 samples of room.
    expect.at_most(
        m, attrs.aggr_us / 2, because="a command is served after the next sample and its work (I36)"
    )

# SPDX-License-Identifier: GPL-2.0
"""Accuracy over cost: what is judged of a recording, and which attributes none beats."""

import math
from dataclasses import replace

import pytest

from damon_tests import bundle
from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.experiment.experiment import Experiment, observe
from damon_tests.experiment.reference_backend import ReferenceBackend
from damon_tests.judge.cost import budget
from damon_tests.judge.monitoring.tradeoff import (
    Attempt,
    Hot,
    Point,
    estimated_instructions,
    judge_attempt,
    worth_it,
)
from damon_tests.patterns.load import load
from damon_tests.ports import NSEC_PER_SEC, UsageError

USUAL = DamonAttrs(min_nr_regions=10, max_nr_regions=100)
GOOD = Attempt(1.0, 1.0, 0.0, 200.0, 2_000.0, 100.0)


def observed(pattern="hot_cold", seconds=4, attrs=USUAL):
    experiment = Experiment(load(pattern), DamonCtx("vaddr", attrs=attrs), seconds * NSEC_PER_SEC)
    return observe(experiment, ReferenceBackend("7.3"), seed=1)


def point(cost, f1=1.0, latency_ms=200.0):
    attempt = replace(GOOD, precision=f1, recall=f1, latency_ms=latency_ms)
    return Point(DamonAttrs(), (attempt,), cost)


def test_hot_set_that_never_changes_is_found_within_some_aggregations():
    attempt = judge_attempt(observed(), Hot())
    assert attempt.precision > 0.95
    assert attempt.recall > 0.95
    assert attempt.working_set_error < 0.05
    assert 100 <= attempt.latency_ms <= 1_000
    # An aggregation of 100 ms has 20 checks of each region.
    assert attempt.samples_per_s == pytest.approx(20 * attempt.aggregated_per_s)
    assert 10 * 10 <= attempt.aggregated_per_s <= 100 * 10


EVERY_10_MS = """
reason: memory that is touched every 10 ms
repeat: true
regions:
  - {name: warm, size: 16 MiB}
  - {name: cold, size: 16 MiB}
phases:
  - name: steady
    duration: 1 h
    accesses:
      - {region: warm, period: 10 ms}
"""


def test_truth_does_not_depend_on_sampling_interval(tmp_path):
    """A set touched every 10 ms is hot in intervals of that length: sampling every 20 ms shows it, sampling
    every 5 ms shows half of its accesses."""
    pattern = tmp_path / "every_10_ms.yaml"
    pattern.write_text(EVERY_10_MS)
    hot = Hot(threshold=0.9, interval_us=10_000)
    slow = DamonAttrs(20_000, 400_000, min_nr_regions=10, max_nr_regions=100)
    assert judge_attempt(observed(pattern, 8, slow), hot).recall > 0.9
    assert judge_attempt(observed(pattern, 8), hot).recall < 0.1
    with pytest.raises(UsageError, match="nothing is hot"):
        judge_attempt(observed(pattern, 8, slow), Hot(threshold=0.9, interval_us=5_000))


def test_memory_that_is_never_hot_is_refused_with_remedy():
    with pytest.raises(UsageError, match="nothing is hot; lower --hot or raise --hot-ms"):
        judge_attempt(observed("idle"), Hot())


def test_recording_of_too_few_aggregations_is_refused_with_remedy():
    slow = DamonAttrs(1_000_000, 20_000_000, min_nr_regions=10, max_nr_regions=100)
    with pytest.raises(UsageError, match="4 s hold too few aggregations of 20 s; record longer"):
        judge_attempt(observed(attrs=slow), Hot())


def test_estimate_is_checks_and_aggregations_times_their_budgets():
    budgets = budget.load(bundle.suites_dir() / "overhead" / "budgets.yaml")
    check, aggregation = (budgets[name].of("7.3").limit for name in ("check.vaddr", "aggregation.region"))
    assert estimated_instructions([GOOD], "vaddr", budgets, "7.3") == 2_000 * check + 100 * aggregation
    assert estimated_instructions([GOOD], "vaddr", budgets, "8.9") is None
    assert estimated_instructions([GOOD], "vaddr", {}, "7.3") is None


def test_point_is_beaten_by_cheaper_one_that_is_as_accurate_and_as_fast():
    cheap, same, faster, better = point(1), point(2), point(3, latency_ms=100), point(4, latency_ms=50)
    assert worth_it([better, same, faster, cheap]) == [cheap, faster, better]


def test_accuracy_buys_cost_but_noise_does_not():
    bad, good, noise = point(1, f1=0.9), point(2, f1=0.99), point(3, f1=0.992)
    assert worth_it([noise, good, bad]) == [bad, good]


def test_point_that_never_shows_a_change_is_beaten_by_one_that_does():
    never, shows = point(1, latency_ms=math.inf), point(2)
    assert worth_it([never, shows]) == [never, shows]
    assert worth_it([replace(never, instructions_per_s=3), shows]) == [shows]

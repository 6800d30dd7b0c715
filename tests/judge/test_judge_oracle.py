# SPDX-License-Identifier: GPL-2.0
"""Oracle bands: cached replicas, pooled decisions, error rates, power against a shift."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from damon_tests.judge import stats
from damon_tests.judge.oracle import (
    Band,
    BandMetric,
    band,
    cache_key,
    decide_sequentially,
    judge_against,
    replica_seed,
)
from damon_tests.judge.stats import SequentialRule

METRICS = (BandMetric("recall", "fraction", "low"), BandMetric("error", "bytes", "high"))


class Simulation:
    def __init__(self) -> None:
        self.seeds: list[int] = []

    def __call__(self, seeds: Sequence[int]) -> list[Mapping[str, float]]:
        self.seeds += seeds
        return [self.simulated(seed) for seed in seeds]

    @staticmethod
    def simulated(seed: int) -> Mapping[str, float]:
        rng = np.random.default_rng(seed)
        return {"recall": float(rng.beta(9, 1)), "error": float(rng.exponential())}


def test_band_is_cached_and_extended(tmp_path: Path) -> None:
    simulation, key = Simulation(), cache_key(truth=b"t", level="7.3")
    first = band(METRICS, simulation, 30, tmp_path, key)
    again = band(METRICS, simulation, 30, tmp_path, key)
    assert first == again
    assert len(simulation.seeds) == 30
    longer = band(METRICS, simulation, 40, tmp_path, key)
    assert len(simulation.seeds) == 40
    assert longer.values["recall"][:30] == first.values["recall"]
    assert longer == band(METRICS, Simulation(), 40, None, key)
    assert simulation.seeds == [replica_seed(key, i) for i in range(40)]
    assert [p.name for p in tmp_path.iterdir()] == [f"band-{key[:32]}.json"]


@pytest.mark.parametrize("content", ["", "{", '{"version": 0}', '{"version": 1, "key": "other"}'])
def test_bad_cache_file_is_replaced(tmp_path: Path, content: str) -> None:
    key = cache_key(a=1)
    path = tmp_path / f"band-{key[:32]}.json"
    path.write_text(content)
    assert band(METRICS, Simulation(), 5, tmp_path, key).n == 5
    assert json.loads(path.read_text())["key"] == key


def test_cache_key_depends_on_every_part() -> None:
    keys = {cache_key(a="1", b="2"), cache_key(a="12", b=""), cache_key(a="1", b="3"), cache_key(a="1")}
    assert len(keys) == 4


def test_nan_survives_the_cache(tmp_path: Path) -> None:
    def simulate(seeds: Sequence[int]) -> list[Mapping[str, float]]:
        return [{"recall": math.nan, "error": 1.0} for _ in seeds]

    band(METRICS, simulate, 3, tmp_path, "k")
    again = band(METRICS, Simulation(), 3, tmp_path, "k")
    assert all(math.isnan(v) for v in again.values["recall"])


def _attempts(bad: float, seed: int, n: int = 100) -> tuple[list[Band], list[Mapping[str, float]]]:
    """Return bands and observations of five attempts with truths of their own; ``bad`` shifts the
    observations."""
    bands, observed = [], []
    for i in range(5):
        key = f"{seed}/{i}"
        bands.append(band(METRICS, Simulation(), n, None, key))
        value = Simulation.simulated(replica_seed(key, 10_000))
        observed.append({"recall": value["recall"] - bad, "error": value["error"]})
    return bands, observed


def test_observation_like_replicas_passes_at_first_look() -> None:
    bands, observed = _attempts(0.0, 1)
    decision = judge_against(bands[:1], observed[:1], METRICS)
    assert decision.state == "pass"
    assert [c.holds for c in decision.checks] == [True, True]
    assert [c.kind for c in decision.checks] == ["oracle band"] * 2
    assert decision.checks[0].alpha == 1e-4
    assert decision.checks[0].measurement.samples == (observed[0]["recall"],)


def test_wrong_damon_fails_at_last_look() -> None:
    bands, observed = _attempts(0.9, 2)
    made: list[int] = []

    def attempt(number: int) -> tuple[Band, Mapping[str, float]]:
        made.append(number)
        return bands[number - 1], observed[number - 1]

    decision = decide_sequentially(attempt, METRICS)
    assert decision.state == "fail"
    assert decision.attempts == len(made) == 3
    assert [check.attempts for check in decision.checks] == [3, 3]
    recall, error = decision.checks
    assert recall.holds is False
    assert error.holds is True
    assert len(recall.measurement.samples) == 3
    assert "after 3 attempts of at most 5" in recall.detail


def test_between_looks_more_attempts_are_needed() -> None:
    bands, observed = _attempts(0.9, 2)
    decision = judge_against(bands[:1], observed[:1], METRICS)
    assert (decision.state, decision.attempts_needed) == ("continue", 3)
    two = judge_against(bands[:2], observed[:2], METRICS)
    assert (two.state, two.attempts_needed) == ("continue", 3)
    assert [c.holds for c in two.checks] == [None, None]


def test_nan_observation_counts_as_worst() -> None:
    bands, _ = _attempts(0.0, 3)
    decision = judge_against(bands[:3], [{"recall": math.nan, "error": 0.1}] * 3, METRICS)
    assert decision.state == "fail"


def test_replicas_without_a_value_are_refused() -> None:
    """Else an attempt without a value would pass, like all replicas."""
    nothing = Band("k", {m.name: (math.nan,) * 40 for m in METRICS})
    with pytest.raises(ValueError, match="no replica has a value of 'recall'"):
        judge_against(nothing, [{"recall": math.nan, "error": math.nan}], METRICS)


def test_too_few_replicas_to_fail_are_refused() -> None:
    tiny = band(METRICS, Simulation(), 4, None, "k")
    with pytest.raises(ValueError, match="too few"):
        judge_against(tiny, [{"recall": 0.0, "error": 0.0}], METRICS)


def test_first_look_that_always_passes_is_refused() -> None:
    """4 two-sided metrics of 40 replicas: the least p of one attempt is 4 * 2 / 41, never below 0.1."""
    metrics = [BandMetric(f"m{i}", "count") for i in range(4)]
    values = tuple(float(i) for i in range(40))
    many = Band("k", {m.name: values for m in metrics})
    with pytest.raises(ValueError, match=r"of 1 attempts and 4 metrics is above 0\.1"):
        judge_against(many, [{m.name: 0.0 for m in metrics}], metrics)
    assert judge_against(many, [{m.name: 20.5 for m in metrics}], metrics[:2]).state == "pass"


def test_false_alarms_stay_within_alpha_and_fault_fails() -> None:
    """Simulate the whole procedure with a shared band of few replicas and two metrics."""
    rule, rounds = SequentialRule(alpha=0.04), 1500
    alarms, failed = 0, 0
    for i in range(rounds):
        rng = np.random.default_rng(i)
        values = rng.standard_t(3, (2, 45))
        shared = Band(str(i), {"recall": tuple(values[0, :40]), "error": tuple(values[1, :40])})
        shift = rng.choice([0.0, 4.0])

        def attempt(n: int, values: object = values, shared: Band = shared, shift: float = shift) -> object:
            v = np.asarray(values)
            return shared, {"recall": v[0, 39 + n] - shift, "error": v[1, 39 + n]}

        state = decide_sequentially(attempt, METRICS, rule).state  # type: ignore[arg-type]
        alarms += shift == 0 and state != "pass"
        failed += shift > 0 and state == "fail"
    assert stats.lower_bound(alarms, rounds // 2, 0.999) <= rule.alpha
    assert failed > 0.75 * rounds / 2

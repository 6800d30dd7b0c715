# SPDX-License-Identifier: GPL-2.0
"""The judging of attempts: windows, memory, replicas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.experiment.experiment import Experiment
from damon_tests.experiment.observation import Observation
from damon_tests.experiment.reference_backend import ReferenceBackend
from damon_tests.experiment.trial import Trial
from damon_tests.judge.monitoring.aggregation_windows import windows
from damon_tests.judge.monitoring.all_invariants import full_counts
from damon_tests.judge.monitoring.disturbances import modelled
from damon_tests.judge.monitoring.judged_windows import clip, comparison, judged_windows
from damon_tests.patterns import load
from damon_tests.ports import NSEC_PER_SEC, page_size
from damon_tests.scenario.invariants import invariants
from damon_tests.scenario.reference_bands import like_the_reference
from damon_tests.scenario.visibility import visibility
from damon_tests.workload.maybe_touched import MaybeTouched

ATTRS = DamonAttrs(max_nr_regions=100)


def trial(pattern: str, operations: str = "vaddr", seconds: int = 3, seed: int = 1) -> Trial:
    cover = "regions" if operations == "fvaddr" else "process"
    experiment = Experiment(
        load.load(pattern), DamonCtx(operations, attrs=ATTRS), seconds * NSEC_PER_SEC, cover
    )
    return Trial(experiment, ReferenceBackend("7.3"), test_id="t", run_seed=seed)


@pytest.fixture(scope="module")
def observation() -> Observation:
    return trial("hot_cold").observe()


def blinded(observation: Observation) -> Observation:
    """Return the observation with the report of a DAMON that detects no access."""
    snapshots = tuple(
        replace(s, nr_accesses=np.zeros_like(s.nr_accesses)) for s in observation.recording.snapshots
    )
    return replace(observation, recording=replace(observation.recording, snapshots=snapshots))


def test_invariants_hold_and_include_the_first_layout(observation: Observation) -> None:
    checks = invariants(observation)
    assert all(c.holds for c in checks)
    assert any(c.invariant == "I6" for c in checks)


def test_invariant_without_a_report_subject_to_it_is_undecided(observation: Observation) -> None:
    *_, last = invariants(observation, shows=("I6", "I26"))
    assert (last.invariant, last.holds) == ("I26", None)
    assert [c.holds for c in invariants(observation, shows=("I6",)) if c.holds is None] == []


def test_comparison_has_the_patterns_regions_only(observation: Observation) -> None:
    c = comparison(observation, after_s=1.0)
    start, end = observation.layout["data"]
    assert c.start.min() == start
    assert (c.start + c.size).max() == end
    assert np.unique(c.per_window(c.size)).tolist() == [end - start]


def test_clip_cuts_pieces_and_keeps_order(observation: Observation) -> None:
    c = comparison(observation, after_s=1.0)
    start, end = observation.layout["data"]
    middle = (start + end) // 2 // page_size() * page_size()
    cut = clip(c, [(start, middle), (middle, end)])
    assert cut.per_window(cut.size).tolist() == c.per_window(c.size).tolist()
    assert (np.diff(cut.window) >= 0).all()
    assert not len(clip(c, []).start)


def test_judged_windows_lie_within_requested_seconds(observation: Observation) -> None:
    start = observation.recording.started_ns
    chosen = judged_windows(observation, 1.0, 2.0)
    assert len(chosen) == 10
    assert min(w.t0_ns for w in chosen) >= start + NSEC_PER_SEC
    assert max(w.t1_ns for w in chosen) <= start + 2 * NSEC_PER_SEC


def test_missing_hit_fails_full_counts() -> None:
    observation = trial("everything_hot", "fvaddr").observe()
    assert [c.holds for c in full_counts(observation)] == [True]
    last = observation.recording.snapshots[-1]
    less = replace(last, nr_accesses=last.nr_accesses - 1)
    wrong = replace(
        observation,
        recording=replace(observation.recording, snapshots=(*observation.recording.snapshots[:-1], less)),
    )
    assert [c.holds for c in full_counts(wrong)] == [False]


def test_unknown_memory_of_the_process_counts_as_touched(observation: Observation) -> None:
    other = next(v for v in observation.vmas if v not in observation.layout.values())
    known = observation.layout["data"]
    truth = MaybeTouched(observation.truth, observation.vmas)
    pages = np.array([other[0] // page_size(), known[0] // page_size(), 1], dtype=np.int64)
    t0, t1 = observation.recording.started_ns, observation.recording.stopped_ns
    assert truth.touched(pages, t0, t1).tolist() == [True, False, False]
    assert truth.rate(pages, t0, t1, 5_000_000).tolist() == [1.0, 0.0, 0.0]
    windows = np.full(3, t0), np.full(3, t1)
    assert truth.touched_each(pages, *windows).tolist() == [True, False, False]
    assert set(truth.ranges()) >= {known} or any(a <= known[0] < known[1] <= b for a, b in truth.ranges())


def test_band_passes_the_reference_and_fails_a_blind_damon() -> None:
    good = trial("hot_cold", seed=11)
    assert all(c.holds for c in like_the_reference(good, ["recall"], after_s=1.0, replicas=40))
    blind = trial("hot_cold", seed=11)
    observe = blind.observe
    blind.observe = lambda attempt=1: blinded(observe(attempt))  # type: ignore[method-assign]
    check, *_ = like_the_reference(blind, ["recall"], after_s=1.0, replicas=40)
    assert check.holds is False
    assert len(check.measurement.samples) == 5  # decided at the last look: every attempt is kept


def test_failed_test_makes_no_more_attempts() -> None:
    """Bands need several attempts to show a blind DAMON; a test that has failed makes none of them."""
    made = trial("hot_cold", seed=11)
    blind = Trial(made.experiment, made.backend, test_id="t", run_seed=11, decided=lambda: True)
    observe = blind.observe
    blind.observe = lambda attempt=1: blinded(observe(attempt))  # type: ignore[method-assign]
    assert like_the_reference(blind, ["recall"], after_s=1.0, replicas=40) == ()
    assert len(blind.observations) == 1


def test_violation_in_a_further_attempt_is_reported() -> None:
    """The third attempt counts more hits than samples: the violation is reported beside the bands."""
    odd = trial("hot_cold", seed=11)
    observe = odd.observe

    def spoilt(attempt: int = 1) -> Observation:
        made = blinded(observe(attempt))
        if attempt != 3:
            return made
        first, *others = made.recording.snapshots
        first = replace(first, nr_accesses=first.nr_accesses + np.uint32(21))
        return replace(made, recording=replace(made.recording, snapshots=(first, *others)))

    odd.observe = spoilt  # type: ignore[method-assign]
    banded, *violations = like_the_reference(odd, ["recall"], after_s=1.0, replicas=40)
    assert banded.holds is False
    assert [c.measurement.name for c in violations if c.invariant == "I19"]
    assert all(c.holds is False for c in violations)


def test_visibility_is_undecided_if_no_access_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = ReferenceBackend("7.3")
    assert visibility(backend, 1).holds is True
    observe = Trial.observe
    monkeypatch.setattr(Trial, "observe", lambda self, attempt=1: blinded(observe(self, attempt)))
    hidden = visibility(backend, 1)
    assert hidden.holds is None
    assert hidden.measurement.value == 0


def stalled(observation: Observation, share: float) -> Observation:
    """Return the observation with a target without a CPU for ``share`` of the second half of the
    recording."""
    start, stop = observation.recording.started_ns, observation.recording.stopped_ns
    step = (stop - start) // 100
    times = [(start + i * step, start + i * step + int(share * step)) for i in range(50, 100)]
    return replace(observation, disturbances=tuple(times))


def test_stalled_windows_are_not_judged(observation: Observation) -> None:
    every = judged_windows(observation, 1.0)
    assert len(judged_windows(stalled(observation, 0.4), 1.0)) == len(every)
    fewer = judged_windows(stalled(observation, 0.9), 1.0)
    assert 0 < len(fewer) < len(every)
    assert max(w.t1_ns for w in fewer) <= observation.recording.started_ns + 1.6 * NSEC_PER_SEC


def test_disturbances_are_reported_with_their_size(observation: Observation) -> None:
    assert modelled([observation], 1.0) == ()  # nothing disturbs the reference
    window = judged_windows(observation, 1.0)[0]
    step = window.duration_ns // 20
    asleep = tuple(
        (w.t0_ns + i * step + step // 4, w.t0_ns + (i + 1) * step)
        for w in windows(observation.recording)
        for i in range(20)
    )
    sentences = modelled([observation, replace(stalled(observation, 0.4), sleeps=asleep)], 1.0)
    assert set(sentences) == {
        "kdamond at work, half of it unwatched: up to 25.0%",
        "target without a CPU, replicas use its real accesses: up to 30.0%",
    }
    late = replace(observation.recording, sample_us=4000, aggr_us=80_000)
    assert modelled([replace(observation, recording=late)], 1.0) == (
        "aggregations longer than requested, replicas take as long: up to 25.0%",
    )


def test_band_checks_report_attempts_and_disturbances(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = trial("hot_cold", seed=13)
    observe = busy.observe
    monkeypatch.setattr(busy, "observe", lambda attempt=1: stalled(observe(attempt), 0.4))
    (check,) = like_the_reference(busy, ["recall"], after_s=1.0, replicas=40)
    assert (check.alpha, check.attempts) == (1e-4, len(check.measurement.samples))
    assert check.modelled == ("target without a CPU, replicas use its real accesses: up to 30.0%",)


def test_too_busy_machine_is_inconclusive(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = trial("hot_cold", seed=12)
    observe = busy.observe
    monkeypatch.setattr(busy, "observe", lambda attempt=1: stalled(observe(attempt), 0.9))
    (check,) = like_the_reference(busy, ["recall"], after_s=1.6, replicas=40)
    assert check.holds is None
    assert "busy" in check.detail

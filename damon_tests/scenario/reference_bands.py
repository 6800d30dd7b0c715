# SPDX-License-Identifier: GPL-2.0
"""Oracle bands: compare an attempt's metrics with those of replicas, runs of the reference on the same
truth."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

import damon_tests
from damon_tests import bundle
from damon_tests.experiment import replica
from damon_tests.experiment.observation import Observation
from damon_tests.experiment.physical_view import as_virtual
from damon_tests.experiment.trial import Trial
from damon_tests.judge import oracle
from damon_tests.judge.monitoring.all_invariants import of_attempt
from damon_tests.judge.monitoring.band_metrics import METRICS, NamedMetric, values
from damon_tests.judge.monitoring.disturbances import modelled
from damon_tests.judge.monitoring.judged_windows import FEWEST_WINDOWS, judged_windows
from damon_tests.judge.oracle import Band
from damon_tests.judge.stats import SequentialRule
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.patterns.spec import Pattern
from damon_tests.ports import NSEC_PER_SEC, UsageError
from damon_tests.workload.pattern_truth import PatternTruth

REPLICAS = 60
"""Enough to fail at the later looks of the rule (three attempts beyond all replicas: p = 61^-3); the first
look passes or asks for more attempts. Replicas are the largest cost of a run on the reference."""


Attempts = Trial | Callable[[int], Observation]
"""What makes attempt number n: an experiment, or a function of the test that drives the run."""


def like_the_reference(
    attempts: Attempts,
    names: Sequence[str],
    *,
    after_s: float,
    until_s: float | None = None,
    replicas: int = REPLICAS,
    rule: SequentialRule | None = None,
) -> tuple[Check, ...]:
    """Check that the metrics ``names`` (of METRICS) are as good as the reference's from ``after_s`` on.

    Returns one check for each metric; all share one α. Makes more attempts when the rule asks for them.
    Attempts with paddr are judged by physical address. Also returns the violated invariants of further
    attempts, because the test itself checks only the first. A test that has failed already makes no more
    attempts, and bands that one attempt does not decide are left out. Raises UsageError for an unknown
    metric, or times outside the run.
    """
    chosen = _metrics(names)
    if isinstance(attempts, Trial):
        _check_time(attempts.experiment.duration_ns, after_s, until_s)
    observe = attempts.observe if isinstance(attempts, Trial) else attempts
    made: list[Observation] = []

    def attempt(number: int) -> tuple[Band, Mapping[str, float]]:
        if number > 1 and isinstance(attempts, Trial) and attempts.decided:
            raise _AlreadyDecided
        observation = observe(number)
        made.append(observation)
        _check_time(observation.recording.stopped_ns - observation.recording.started_ns, after_s, until_s)
        observation = as_virtual(observation) if observation.ctx.operations == "paddr" else observation
        judged = judged_windows(observation, after_s, until_s)
        if len(judged) < FEWEST_WINDOWS:
            raise _TooFewWindows(len(judged))
        observed = values(observation, chosen, after_s, until_s)
        return _band(observation, chosen, after_s, until_s, replicas), observed

    try:
        checks = oracle.decide_sequentially(attempt, [c.band for c in chosen], rule).checks
        accounted = modelled(made, after_s, until_s)
        banded = tuple(replace(check, modelled=accounted) for check in checks)
        return (*banded, *_violations(made[1:]))
    except _AlreadyDecided:
        return _violations(made[1:])
    except _TooFewWindows as few:
        m = Measurement("windows that can be judged", float(few.count), "count")
        why = "in other windows the target or the kdamond waited too long for a CPU"
        detail = "end what else keeps this machine busy, and run again"
        undecided = Check("oracle band", m, f">= {FEWEST_WINDOWS}", why, None, detail)
        return (undecided, *_violations(made[1:]))


def _violations(later: Sequence[Observation]) -> tuple[Check, ...]:
    """Return the checks of invariants that do not hold in these attempts."""
    checks = [check for observation in later for check in of_attempt(observation)]
    return tuple(check for check in checks if check.holds is False)


def _metrics(names: Sequence[str]) -> list[NamedMetric]:
    """Return the metrics of these names. Raises UsageError for a name that is not in METRICS."""
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        raise UsageError(f"unknown metric {unknown[0]!r}: the known metrics are {', '.join(METRICS)}")
    return [METRICS[name] for name in names]


def _check_time(recorded_ns: int, after_s: float, until_s: float | None) -> None:
    """Raise UsageError when nothing was recorded between ``after_s`` and ``until_s``."""
    recorded_s = recorded_ns / NSEC_PER_SEC
    if after_s >= recorded_s:
        raise UsageError(
            f"after_s={after_s:g}: only {recorded_s:g} s are recorded, so nothing would be judged"
        )
    if until_s is not None and until_s <= after_s:
        raise UsageError(
            f"until_s={until_s:g} is not later than after_s={after_s:g}: nothing would be judged"
        )


class _AlreadyDecided(Exception):
    """The test has failed: more attempts would change nothing."""


class _TooFewWindows(Exception):
    def __init__(self, count: int) -> None:
        self.count = count


@cache
def _code() -> str:
    """Return a hash of the code that makes bands: a change invalidates the cached bands."""
    digest = hashlib.sha256()
    package = Path(damon_tests.__file__).parent
    for part in ("reference", "judge", "workload", "patterns", "experiment", "scenario"):
        for path in sorted((package / part).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _band(
    observation: Observation, chosen: Sequence[NamedMetric], after_s: float, until_s: float | None, n: int
) -> Band:
    def simulate(seeds: Sequence[int]) -> Sequence[Mapping[str, float]]:
        runs = replica.replicas(observation, seeds)
        return [values(replace(observation, recording=run), chosen, after_s, until_s) for run in runs]

    key = band_key(observation, after_s, until_s)
    return oracle.band([c.band for c in chosen], simulate, n, kept_bands(observation), key)


def band_key(observation: Observation, after_s: float, until_s: float | None) -> str:
    """Return the cache key of an attempt's band: a hash of everything that decides a replica.

    A real target's accesses never repeat, so its key does not either. Simulated accesses that the seed does
    not decide are the same in every attempt, so those attempts share their replicas.
    """
    times = np.array([w.t1_ns for w in judged_windows(observation, 0)], dtype=np.int64).tobytes()
    return oracle.cache_key(
        pattern=observation.pattern,
        seed=observation.seed if _drawn(observation.pattern) else "none",
        layout=sorted(observation.layout.items()),
        vmas=observation.vmas,
        phases=observation.phases,
        ctx=observation.ctx,
        core_unit=observation.core_unit,
        commits=observation.committed.commits if observation.committed else "none",
        level=observation.level,
        times=times,
        span=(after_s, until_s),
        code=_code(),
    )


def kept_bands(observation: Observation) -> Path | None:
    """Return the folder of cached bands; None for a real target, whose accesses never repeat."""
    return bundle.cache_dir() / "bands" if isinstance(observation.truth, PatternTruth) else None


def _drawn(pattern: Pattern) -> bool:
    """Return whether the seed decides what is accessed."""
    return any(access.order != "sequential" for phase in pattern.phases for access in phase.accesses)

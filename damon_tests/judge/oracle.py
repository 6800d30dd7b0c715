# SPDX-License-Identifier: GPL-2.0
"""The reference as an oracle: what a correct DAMON would have reported of the accesses that happened.

Where neither an invariant nor a closed form exists, the reference with clean rules runs many times on the
observed truth. For a correct DAMON these *replicas* and the observation are draws from one distribution, so
the observation's rank among them is an exact test (``stats.rank_test``). The caller passes the function that
runs the reference; this module caches the replicas' numbers and judges.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from damon_tests.judge import stats
from damon_tests.judge.stats import SequentialRule, Side, State
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports.numbers import number
from damon_tests.ports.stopwatch import timed

_CACHE_VERSION = 1


@dataclass(frozen=True)
class BandMetric:
    """One number of an attempt. ``side``: the direction in which a wrong DAMON is off."""

    name: str
    unit: str
    side: Side = "both"


@dataclass(frozen=True)
class Band:
    """Replicas of every metric for one truth: ``values[name]`` in seed order, all of one length."""

    key: str
    values: Mapping[str, tuple[float, ...]]

    @property
    def n(self) -> int:
        return min((len(v) for v in self.values.values()), default=0)


@dataclass(frozen=True)
class Decision:
    """The result of a look at all attempts so far.

    ``attempts_needed``: with "continue", the number of attempts before the next look.

    ``p``: the pooled p value, adjusted for the number of metrics. ``checks``: one for each metric.
    """

    state: State
    attempts: int
    attempts_needed: int
    p: float
    checks: tuple[Check, ...]


def cache_key(**parts: object) -> str:
    """Return the key of a band of (truth, request, rules, level, metrics): a sha256 of the parts.

    Each part is bytes, or has a str() that determines it wholly (that of a frozen dataclass does).
    """
    digest = hashlib.sha256()
    for name in sorted(parts):
        value = parts[name]
        data = value if isinstance(value, bytes) else str(value).encode()
        digest.update(f"{name}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.hexdigest()


def replica_seed(key: str, index: int) -> int:
    """Return the seed of one replica. It depends on the band only, so a cached band equals a fresh one."""
    return int.from_bytes(hashlib.sha256(f"{key}\0oracle\0{index}".encode()).digest()[:8], "little") >> 1


def band(
    metrics: Sequence[BandMetric],
    simulate: Callable[[Sequence[int]], Sequence[Mapping[str, float]]],
    n: int,
    cache_dir: Path | None,
    key: str,
) -> Band:
    """Return ``n`` replicas of every metric; run only those that the cache lacks.

    ``simulate(seeds)`` runs the reference with clean rules once for each seed, and returns the metrics of
    each run by name. Raises KeyError when a metric is missing.
    """
    names = [m.name for m in metrics]
    path = None if cache_dir is None else cache_dir / f"band-{key[:32]}.json"
    values = _cached(path, key, names)
    missing = [replica_seed(key, index) for index in range(len(values[names[0]]), n)]
    if missing:
        with timed("replicas"):
            results = simulate(missing)
        for result in results:
            for name in names:
                values[name].append(float(result[name]))
        if path is not None:
            _store(path, key, values)
    return Band(key, {name: tuple(values[name][:n]) for name in names})


def judge_against(
    bands: Band | Sequence[Band],
    observed: Sequence[Mapping[str, float]],
    metrics: Sequence[BandMetric],
    rule: SequentialRule | None = None,
) -> Decision:
    """Judge all attempts so far, pooled.

    ``bands``: one for each attempt, or one that all attempts share. The metrics share one α: the smallest of
    their p values times their number decides (Bonferroni); Holm's procedure selects the metrics that failed.
    A NaN counts as the worst value. Raises ValueError when the replicas are too few for a test that can fail.
    """
    rule = rule or SequentialRule()
    per_attempt = [bands] * len(observed) if isinstance(bands, Band) else list(bands)
    if len(per_attempt) != len(observed) or not observed:
        raise ValueError(f"{len(observed)} attempts, {len(per_attempt)} bands")
    _can_fail(per_attempt, metrics, rule)
    p = [_p_value(m, per_attempt, observed) for m in metrics]
    attempts = len(observed)
    adjusted = min(1.0, len(metrics) * min(p))
    state = rule.decide(attempts, adjusted)
    failed = _holm(p, rule.threshold(attempts)) if state == "fail" else set()
    checks = tuple(
        _check(m, per_attempt, observed, rule, state=_state_of(state, i in failed), p=p[i])
        for i, m in enumerate(metrics)
    )
    needed = rule.next_look(attempts + 1) if state == "continue" and attempts in rule.looks else attempts
    if state == "continue" and attempts not in rule.looks:
        needed = rule.next_look(attempts)
    return Decision(state, attempts, needed, adjusted, checks)


def decide_sequentially(
    attempt: Callable[[int], tuple[Band, Mapping[str, float]]],
    metrics: Sequence[BandMetric],
    rule: SequentialRule | None = None,
) -> Decision:
    """Make attempts 1, 2, ... until the rule decides.

    ``attempt(n)`` makes attempt n and returns the band of its truth, and its metrics by name.
    """
    rule = rule or SequentialRule()
    made: list[tuple[Band, Mapping[str, float]]] = []
    needed = rule.looks[0]
    while True:
        while len(made) < needed:
            made.append(attempt(len(made) + 1))
        decision = judge_against([b for b, _ in made], [o for _, o in made], metrics, rule)
        if decision.state != "continue":
            return decision
        needed = decision.attempts_needed


# --- helpers ---------------------------------------------------------------------------------


def _p_value(m: BandMetric, bands: Sequence[Band], observed: Sequence[Mapping[str, float]]) -> float:
    """Return the pooled p value.

    Attempts that share a band share a stratum, because their ranks are not independent.
    """
    strata: dict[str, tuple[list[float], list[float]]] = {}
    for band_, values in zip(bands, observed, strict=True):
        replicas = [_worst_if_nan(v, m.side) for v in band_.values[m.name]]
        strata.setdefault(band_.key, (replicas, []))[1].append(_worst_if_nan(values[m.name], m.side))
    return stats.rank_test(list(strata.values()), m.side)


def _worst_if_nan(value: float, side: Side) -> float:
    if not math.isnan(value):
        return float(value)
    return math.inf if side == "high" else -math.inf


def _holm(p: Sequence[float], alpha: float) -> set[int]:
    """Return the indexes of the hypotheses that Holm's procedure rejects."""
    rejected: set[int] = set()
    for step, i in enumerate(sorted(range(len(p)), key=lambda j: p[j])):
        if p[i] * (len(p) - step) > alpha:
            break
        rejected.add(i)
    return rejected


def _state_of(state: State, failed: bool) -> bool | None:
    if state == "fail":
        return not failed
    return True if state == "pass" else None


def _check(
    m: BandMetric,
    bands: Sequence[Band],
    observed: Sequence[Mapping[str, float]],
    rule: SequentialRule,
    *,
    state: bool | None,
    p: float,
) -> Check:
    samples = tuple(float(o[m.name]) for o in observed)
    replicas = np.concatenate([np.asarray(b.values[m.name]) for b in {b.key: b for b in bands}.values()])
    known = replicas[~np.isnan(replicas)]
    low, middle, high = np.percentile(known, [0, 50, 100]) if len(known) else (math.nan,) * 3
    word = {"low": "not below", "high": "not above", "both": "like"}[m.side]
    limit = f"{word} the reference's {_number(low, m.unit)} to {_number(high, m.unit)} {m.unit}"
    reason = f"rank among {len(replicas)} replicas, median {_number(middle, m.unit)}"
    tries = "1 attempt" if len(observed) == 1 else f"{len(observed)} attempts"
    detail = f"p = {p:.3g} after {tries} of at most {rule.looks[-1]}"
    measured = Measurement(m.name, float(np.mean(samples)), m.unit, samples)
    return Check("oracle band", measured, limit, reason, state, detail, rule.alpha, attempts=len(observed))


def _number(value: float, unit: str) -> str:
    return number(round(value)) if unit == "bytes" and math.isfinite(value) else number(float(f"{value:.4g}"))


def _can_fail(bands: Sequence[Band], metrics: Sequence[BandMetric], rule: SequentialRule) -> None:
    """Raise ValueError for a test that cannot fail.

    With too few replicas for the number of metrics, the first look always passes, or the last never fails.
    """
    n, last = min(b.n for b in bands), rule.looks[-1]
    limits = [*zip(rule.looks, rule.comfort, strict=False), (last, rule.threshold(last))]
    for m in metrics:
        if all(math.isnan(v) for band in bands for v in band.values[m.name]):
            raise ValueError(f"no replica has a value of {m.name!r}: nothing to compare with")
        for attempts, limit in limits:
            if len(metrics) * stats.smallest_p(n, attempts, m.side) > limit:
                raise ValueError(
                    f"{n} replicas are too few to ever reject {m.name!r} at alpha {rule.alpha:g}:"
                    f" the least p of {attempts} attempts and {len(metrics)} metrics is above {limit:g}"
                )


def _cached(path: Path | None, key: str, names: Sequence[str]) -> dict[str, list[float]]:
    """Return the cached values of exactly this key; empty lists if there are none that can be read."""
    fresh: dict[str, list[float]] = {name: [] for name in names}
    if path is None:
        return fresh
    try:
        stored = json.loads(path.read_text())
        if stored["version"] != _CACHE_VERSION or stored["key"] != key:
            return fresh
        values = {
            name: [math.nan if v is None else float(v) for v in stored["values"][name]] for name in names
        }
    except (OSError, ValueError, KeyError, TypeError):
        return fresh
    n = min(len(v) for v in values.values())
    return {name: v[:n] for name, v in values.items()}


def _store(path: Path, key: str, values: Mapping[str, Sequence[float]]) -> None:
    """Store the band: write a temporary file and rename it, since several workers may store the same band."""
    path.parent.mkdir(parents=True, exist_ok=True)
    safe = {name: [None if math.isnan(v) else v for v in vs] for name, vs in values.items()}
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps({"version": _CACHE_VERSION, "key": key, "values": safe}))
    os.replace(temporary, path)

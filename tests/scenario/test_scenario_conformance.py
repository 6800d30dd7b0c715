# SPDX-License-Identifier: GPL-2.0
"""Conformance: a correct DAMON passes, wrong ones fail, disturbed attempts are left out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from damon_tests.damon.params import (
    ANY,
    U32_MAX,
    DamonAttrs,
    DamonCtx,
    Damos,
    DamosAccessPattern,
    DamosQuota,
    Kdamond,
)
from damon_tests.experiment.live import Live, live
from damon_tests.experiment.reference_backend import ReferenceBackend
from damon_tests.experiment.sampling_timetable import Timetable
from damon_tests.patterns import load
from damon_tests.reference.faults.catalogue import fault
from damon_tests.reference.rules.levels import LEVELS
from damon_tests.scenario import conformance
from damon_tests.scenario.conformance import EVERYTHING, Attempt, attempt, compare_with_reference

OLD = DamosAccessPattern(0, ANY.sz_max, 0, 0, 3, U32_MAX)
QUOTA = DamosQuota(bytes=2 << 20, reset_interval_ms=250)
CTX = DamonCtx(
    "fvaddr",
    attrs=DamonAttrs(min_nr_regions=10, max_nr_regions=40),
    schemes=(EVERYTHING, Damos(access_pattern=OLD, action="cold", quota=QUOTA), EVERYTHING),
)


class Maker:
    """Makes attempts on the reference, with or without a fault."""

    def __init__(self, name: str = "", level: str = "7.3", seconds: float = 2.0) -> None:
        rules = LEVELS[level].rules
        self.backend = ReferenceBackend(level, fault(name).apply(rules) if name else rules)
        self.seconds = seconds
        self.made = 0

    @contextmanager
    def live(self, pattern: str, ctx: DamonCtx, **options: object) -> Iterator[Live]:
        self.made += 1
        with live(self.backend, [load.load(pattern)], [Kdamond(ctx)], self.made, **options) as run:
            yield run

    def __call__(self) -> Attempt:
        return attempt(self.live, "hot_cold", CTX, self.seconds, cover="regions")


def failed(name: str = "", level: str = "7.3") -> set[str]:
    """Return the metrics that fail."""
    checks = compare_with_reference(Maker(name, level), after_s=0.5)
    assert all(check.holds is not None for check in checks)
    return {check.measurement.name for check in checks if not check.holds}


@pytest.mark.parametrize("level", ["7.3", "6.12"])
def test_reference_passes_against_itself(level: str) -> None:
    assert failed(level=level) == set()


@pytest.mark.parametrize("level", ["7.3", "6.12"])
def test_replica_whose_kdamond_works_between_samples_makes_as_many_passes(
    level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of kernels do, whose sleeps are traced: a pass belongs to the aggregation before it."""
    made = Maker(level=level)()
    size = int(made.seen.recording.of_target(0)[0].sizes.sum())
    working = Timetable(lambda now_ns, sample_us: sample_us * 1000, lambda now_ns, sample_us: 20_000)
    monkeypatch.setattr(conformance, "timetable", lambda observation: working)
    for seed in (1, 2):
        _, stats = conformance._run(made, seed)
        # The first (6.12) or the last scheme tries all memory exactly once in a pass.
        assert made.passes * size in (stats[0].sz_tried, stats[-1].sz_tried)


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("qt_exceeds_never", "scheme 1 qt_exceeds per pass"),
        ("stats_tried_is_applied", "scheme 0 sz_tried per pass"),
        ("age_never_reset", "age of hot memory"),
        ("merge_unlimited", "region count p50"),
    ],
)
def test_wrong_damon_fails(name: str, metric: str) -> None:
    assert metric in failed(name)


def test_disturbed_attempts_are_repeated() -> None:
    make = Maker()

    def mostly_disturbed() -> Attempt:
        next_attempt = make()
        if make.made > 2:
            return next_attempt
        start = next_attempt.seen.recording.started_ns
        return replace(
            next_attempt, seen=replace(next_attempt.seen, disturbances=((start, start + 1_000_000_000),))
        )

    checks = compare_with_reference(mostly_disturbed, after_s=0.5)
    assert make.made == 2 + conformance.RULE.looks[0]
    assert all(check.holds for check in checks)


def test_too_many_disturbed_attempts_are_undecided() -> None:
    make = Maker(seconds=1.2)

    def disturbed() -> Attempt:
        next_attempt = make()
        start = next_attempt.seen.recording.started_ns
        return replace(
            next_attempt, seen=replace(next_attempt.seen, disturbances=((start, start + 1_000_000_000),))
        )

    (check,) = compare_with_reference(disturbed, after_s=0.5)
    assert check.holds is None
    assert make.made == conformance.SPARE + 1
    assert "end what else keeps this machine busy" in check.detail


def test_request_without_everything_schemes_is_refused() -> None:
    with pytest.raises(ValueError, match="the first and the last scheme have to be EVERYTHING"):
        attempt(Maker().live, "hot_cold", replace(CTX, schemes=CTX.schemes[1:]), 1)

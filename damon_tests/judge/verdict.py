# SPDX-License-Identifier: GPL-2.0
"""Measurements, checks and the verdict they add up to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from damon_tests.judge.chart import Chart
from damon_tests.ports.numbers import number

UNITLESS = ("count", "fraction")
"""Units that a sentence leaves out."""


class Verdict(StrEnum):
    """The result of a test. See the README, "Verdicts and exit codes"."""

    PASS = "PASS"
    FAIL = "FAIL"
    XFAIL = "XFAIL"
    XPASS = "XPASS"  # the named defect is gone: remove the marker; gates as FAIL
    SKIP = "SKIP"
    INCONCLUSIVE = "INCONCLUSIVE"
    ERROR = "ERROR"

    @property
    def exit_code(self) -> int:
        """Return what a command that ends with this verdict alone exits with."""
        codes = {"FAIL": 1, "XPASS": 1, "SKIP": 5, "ERROR": 6, "INCONCLUSIVE": 7}
        return codes.get(self.value, 0)


Kind = Literal["invariant", "closed form", "oracle band", "budget"]


@dataclass(frozen=True)
class Measurement:
    """One number with everything needed to repeat the judgement.

    ``samples`` are the raw values that ``value`` summarises (never only their mean);
    ``unit`` is a word ("bytes", "regions", "fraction", "samples", "µs", "count").
    """

    name: str
    value: float
    unit: str
    samples: tuple[float, ...] = ()


@dataclass(frozen=True)
class Check:
    """One expectation applied to one measurement.

    ``holds`` None: could not be decided (INCONCLUSIVE). ``limit`` is the bound in words and
    numbers (">= 0.9"), ``reason`` why that bound, with the invariant's or rule's name;
    ``detail`` points at the evidence (first violating snapshot, region, address).
    ``alpha`` is the false-alarm probability of a statistical check, 0 for exact ones. ``attempts``: how many
    independent ones were judged together, none left out. ``modelled``: machine disturbances that the
    limit accounts for, each with its size. ``invariant``: the invariant of the
    specification that it checks ("I47"; several: "I24, I29"), else empty. ``chart``: the picture that shows
    why it does not hold, if there is one.
    """

    kind: Kind
    measurement: Measurement
    limit: str
    reason: str
    holds: bool | None
    detail: str = ""
    alpha: float = 0.0
    attempts: int = 1
    modelled: tuple[str, ...] = ()
    invariant: str = ""
    chart: Chart | None = field(default=None, compare=False, repr=False)


def decide(checks: Sequence[Check]) -> tuple[Verdict, str]:
    """Return the verdict of a test's checks, and its reason in one sentence.

    Without a check it is ERROR: a test that checks nothing shows nothing.
    """
    if not checks:
        return Verdict.ERROR, "the test checked nothing"
    failed = [c for c in checks if c.holds is False]
    open_ = [c for c in checks if c.holds is None]
    if failed:
        return Verdict.FAIL, describe(failed[0])
    if open_:
        return Verdict.INCONCLUSIVE, describe(open_[0])
    return Verdict.PASS, f"{len(checks)} checks hold"


def describe(check: Check) -> str:
    """Return one line with the measured value, the limit and the reason."""
    m = check.measurement
    reason = f"{check.reason}, {check.invariant}" if check.invariant else check.reason
    unit = "" if m.unit in UNITLESS else f" {m.unit}"
    text = f"{m.name} = {number(m.value)}{unit}, expected {check.limit} ({reason})"
    return f"{text}; {check.detail}" if check.detail else text

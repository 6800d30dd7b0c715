# SPDX-License-Identifier: GPL-2.0
"""What a kernel must have: the features of its series, without those that its own configuration leaves out.

A test whose feature is missing is skipped, so that a feature that was lost would vanish from a run without a
word. This comparison is made once a session, whatever tests run, and a missing feature is a FAIL.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from damon_tests.damon.capability import Capabilities
from damon_tests.damon.features import FEATURES, LEVELS, Feature, version_key
from damon_tests.damon.known_defects import numbers

SYSFS = "CONFIG_DAMON_SYSFS"

_OF_OPS = {"vaddr": "CONFIG_DAMON_VADDR", "fvaddr": "CONFIG_DAMON_VADDR", "paddr": "CONFIG_DAMON_PADDR"}
_OF_MODULE = {
    "damon_reclaim": "CONFIG_DAMON_RECLAIM",
    "damon_lru_sort": "CONFIG_DAMON_LRU_SORT",
    "damon_stat": "CONFIG_DAMON_STAT",
}
_EVENTS = "CONFIG_EVENT_TRACING"


@dataclass(frozen=True)
class KernelConfig:
    """How a kernel was built. ``source`` is where that was read, ``values`` maps CONFIG_ names to "y", "m" or
    text; what is not set is not in it. None: not known."""

    source: str
    values: Mapping[str, str] | None

    def leaves_out(self, symbol: str) -> bool | None:
        """Whether the kernel was built without an option; None where that is not known."""
        return None if self.values is None else self.values.get(symbol, "n") not in ("y", "m")


_SYMBOLS = (SYSFS, _EVENTS, *_OF_OPS.values(), *_OF_MODULE.values())

EVERYTHING = KernelConfig("the reference has everything", dict.fromkeys(_SYMBOLS, "y"))


@dataclass(frozen=True)
class FeatureReport:
    """What was compared, and how it came out.

    Attributes:
        series: whose features are expected.
        expected: how many features the series has.
        missing: names of those that are not there although nothing leaves them out, with what the probe says.
        left_out: features that the configuration leaves out, with the option that is not set.
        undecided: features that are not there, and that an unknown configuration may have left out.
        config: where the configuration was read, or why it is not known.
    """

    series: str
    expected: int
    missing: Mapping[str, str]
    left_out: Mapping[str, str]
    undecided: Mapping[str, str]
    config: str

    def __str__(self) -> str:
        text = f"{self.expected} features of {self.series} expected, {len(self.missing)} missing"
        if self.left_out:
            options = sorted(set(self.left_out.values()))
            text += f", {len(self.left_out)} left out by the configuration ({', '.join(options)} not set)"
        if self.undecided:
            text += f", {len(self.undecided)} not there, perhaps left out: {self.config}"
        return text


def series_of(level: str, release: str) -> str:
    """The series whose features a kernel must have: that of its release where it is known and newer.

    The level comes from the features that are there, so that a lost feature may make it too low; the release
    does not depend on them. Distributions may add features of later series to an older release.
    """
    named = ".".join(str(number) for number in numbers(release)[:2])
    return max(level, named, key=version_key) if named in LEVELS else level


def compare(capabilities: Capabilities, series: str, config: KernelConfig) -> FeatureReport:
    """Compare what a probe found with what a kernel of a series has."""
    expected = [f for f in FEATURES.values() if version_key(f.since) <= version_key(series)]
    missing: dict[str, str] = {}
    left_out: dict[str, str] = {}
    undecided: dict[str, str] = {}
    for feature in expected:
        if not _absent(feature, capabilities):
            continue
        symbol = _option(feature)
        without = config.leaves_out(symbol)
        reason = capabilities.reasons.get(feature.name, "not there")
        if without:
            left_out[feature.name] = symbol
        elif without is None and _may_be_left_out(feature, capabilities):
            undecided[feature.name] = reason
        else:
            missing[feature.name] = reason
    return FeatureReport(series, len(expected), missing, left_out, undecided, config.source)


def _absent(feature: Feature, capabilities: Capabilities) -> bool:
    """Whether the probe shows that a feature is not there. Who could stage could see tracepoints, too."""
    there = capabilities.present[feature.name]
    return there is False or (there is None and feature.by == "event" and capabilities.staged)


def _option(feature: Feature) -> str:
    """The option that a feature comes with."""
    if feature.by == "ops":
        return _OF_OPS[feature.path]
    if feature.by == "event":
        return _EVENTS
    return _OF_MODULE[feature.name.split(".")[1]] if feature.by == "module" else SYSFS


def _may_be_left_out(feature: Feature, capabilities: Capabilities) -> bool:
    """Whether an option that nobody knows may explain that a feature is not there: not where others are there
    that come with the same option."""
    same = [f.name for f in FEATURES.values() if f.by == feature.by and _option(f) == _option(feature)]
    return not any(capabilities.present[name] for name in same)

# SPDX-License-Identifier: GPL-2.0
"""The features that a kernel must have: those of its series that its configuration does not leave out.

A test whose feature is missing is skipped, so a regression that loses a feature would go unnoticed.
Each session therefore makes this comparison once, whatever tests run; a missing feature is a FAIL.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from damon_tests.damon.capability import Capabilities
from damon_tests.damon.features import FEATURES, LEVELS, Feature, version_key
from damon_tests.damon.kernel_config import KernelConfig
from damon_tests.damon.known_defects import numbers

SYSFS = "CONFIG_DAMON_SYSFS"

_OF_OPS = {"vaddr": "CONFIG_DAMON_VADDR", "fvaddr": "CONFIG_DAMON_VADDR", "paddr": "CONFIG_DAMON_PADDR"}
_OF_MODULE = {
    "damon_reclaim": "CONFIG_DAMON_RECLAIM",
    "damon_lru_sort": "CONFIG_DAMON_LRU_SORT",
    "damon_stat": "CONFIG_DAMON_STAT",
}
_EVENTS = "CONFIG_EVENT_TRACING"


_SYMBOLS = (SYSFS, _EVENTS, *_OF_OPS.values(), *_OF_MODULE.values())

EVERYTHING = KernelConfig("the reference has everything", dict.fromkeys(_SYMBOLS, "y"))


@dataclass(frozen=True)
class FeatureReport:
    """The result of comparing a kernel's features with those of its series.

    Attributes:
        series: the series whose features are expected.
        expected: how many features the series has.
        missing: absent features that no configuration leaves out, with the reason that the probe gives.
        left_out: features that the configuration leaves out, with the option that is not set.
        undecided: absent features that an unknown configuration may have left out.
        config: where the configuration was read, or why it is unknown.
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
    """Return the series whose features a kernel must have: the newer of its level and its release's series.

    The level comes from the features that are present, so a lost feature may make it too low; the release
    does not depend on them: a release of no known series has what the series before it has. Distributions
    may add features of later series to an older release.
    """
    named = numbers(release)[:2]
    not_newer = [known for known in LEVELS if version_key(known) <= named]
    return max([level, *not_newer[-1:]], key=version_key)


def compare(capabilities: Capabilities, series: str, config: KernelConfig) -> FeatureReport:
    """Compare the probed features with those of a series."""
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
    """Return whether the probe shows that a feature is absent. A full probe can list tracepoints, too."""
    there = capabilities.present[feature.name]
    return there is False or (there is None and feature.by == "event" and capabilities.staged)


def _option(feature: Feature) -> str:
    """Return the configuration option that builds a feature."""
    if feature.by == "ops":
        return _OF_OPS[feature.path]
    if feature.by == "event":
        return _EVENTS
    return _OF_MODULE[feature.name.split(".")[1]] if feature.by == "module" else SYSFS


def _may_be_left_out(feature: Feature, capabilities: Capabilities) -> bool:
    """Return whether an option of an unknown configuration may have left a feature out: not if other features
    of the same option are present."""
    same = [f.name for f in FEATURES.values() if f.by == feature.by and _option(f) == _option(feature)]
    return not any(capabilities.present[name] for name in same)

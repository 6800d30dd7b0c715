# SPDX-License-Identifier: GPL-2.0
"""The features that a kernel must have, and those that its configuration may leave out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from damon_tests.damon.capability import Capabilities, fingerprint
from damon_tests.damon.expected_features import EVERYTHING, compare, series_of
from damon_tests.damon.features import FEATURES, version_key
from damon_tests.damon.kernel_config import KernelConfig

UNKNOWN = KernelConfig("no configuration", None)


def capabilities(level: str, *lost: str) -> Capabilities:
    """Return the capabilities of a series without the features that begin with a word of ``lost``."""
    present = {f.name: version_key(f.since) <= version_key(level) for f in FEATURES.values()}
    for name in present:
        if name.startswith(lost):
            present[name] = False
    return Capabilities(present)


def without(*symbols: str) -> KernelConfig:
    assert EVERYTHING.values is not None
    return KernelConfig("config", {k: v for k, v in EVERYTHING.values.items() if k not in symbols})


def test_complete_series_lacks_no_feature() -> None:
    report = compare(capabilities("6.18"), "6.18", EVERYTHING)
    assert (report.missing, report.left_out, report.undecided) == ({}, {}, {})
    assert report.expected > 100


@pytest.mark.parametrize("lost", ["damos_esz", "probes.weight", "filters.young", "ops.paddr", "ctx.pause"])
def test_lost_feature_is_reported_missing(lost: str) -> None:
    report = compare(capabilities("7.3", lost), "7.3", EVERYTHING)
    assert lost in report.missing


def test_a_lost_feature_does_not_lower_what_is_expected() -> None:
    # If all new features of a series are lost, the previous series fits best.
    newest = [f.name for f in FEATURES.values() if f.since == "7.3"]
    assert newest
    lost = capabilities("7.3", *newest)
    assert fingerprint(lost) == "7.2"
    series = series_of(fingerprint(lost), "7.3.4+deb14-cloud-amd64")
    assert series == "7.3"
    assert set(compare(lost, series, EVERYTHING).missing) == set(newest)


@pytest.mark.parametrize(
    ("level", "release", "series"),
    [
        ("7.3", "7.3.4", "7.3"),
        ("7.3", "5.14.0-600.el9", "7.3"),  # a distribution that took DAMON from later series
        ("7.2", "7.3.0-rc1", "7.3"),
        ("7.3", "7.9.1", "7.3"),  # of no series that is known
        ("7.2", "7.9.1", "7.3"),
        ("6.12", "6.14.2", "6.12"),
        ("7.3", "", "7.3"),
    ],
)
def test_series_is_the_newer_of_features_and_release(level: str, release: str, series: str) -> None:
    assert series_of(level, release) == series


def test_what_the_configuration_leaves_out_is_not_missing() -> None:
    lost = capabilities("7.3", "modules.damon_lru_sort", "ops.paddr")
    report = compare(lost, "7.3", without("CONFIG_DAMON_LRU_SORT", "CONFIG_DAMON_PADDR"))
    assert not report.missing
    assert report.left_out["ops.paddr"] == "CONFIG_DAMON_PADDR"
    assert "CONFIG_DAMON_LRU_SORT" in str(report)
    # Only the features of that option.
    assert (
        "ops.vaddr" in compare(capabilities("7.3", "ops.vaddr"), "7.3", without("CONFIG_DAMON_PADDR")).missing
    )


def test_an_unknown_configuration_explains_whole_options_only() -> None:
    report = compare(capabilities("7.3", "modules.damon_stat", "damos_esz"), "7.3", UNKNOWN)
    assert "modules.damon_stat" in report.undecided
    assert list(report.missing) == ["damos_esz"], "other tracepoints are there"
    assert "no configuration" in str(report)


def test_unseen_tracepoints_are_missing_after_a_full_probe() -> None:
    present = {**capabilities("7.3").present, "damos_esz": None}
    probed = Capabilities(present)
    assert "damos_esz" in compare(probed, "7.3", EVERYTHING).missing
    assert not compare(replace(probed, staged=False), "7.3", EVERYTHING).missing

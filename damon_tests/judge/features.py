# SPDX-License-Identifier: GPL-2.0
"""The check that a DAMON has every feature of its series."""

from __future__ import annotations

from damon_tests.damon.expected_features import FeatureReport
from damon_tests.judge.verdict import Check, Measurement

ROW = "kernel::expected_features"
"""The id of the verdict on missing features, beside those of tests."""


def all_there(report: FeatureReport) -> Check:
    """Check that no feature is missing; the detail lists each missing feature and what the probe reports."""
    detail = "; ".join(f"{name}: {why}" for name, why in report.missing.items())
    because = f"Linux {report.series} has them, and no configuration leaves them out ({report.config})"
    missing = Measurement("features missing", float(len(report.missing)), "count")
    return Check("invariant", missing, "== 0", because, not report.missing, detail)

# SPDX-License-Identifier: GPL-2.0
"""Savings as a table, a document and a picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from damon_tests.judge.cost.savings import Arm, Shares, WorkloadCost, compared
from damon_tests.ports import UsageError
from damon_tests.report import savings

COST = WorkloadCost(
    work=100.0, own=5_000, kdamond=0, machine=9_000, tlb_flushes=3, kdamond_flushes=1, window_ns=10_000
)
WITHOUT = Arm(*("reclaim", "zipf", "none", 1, COST, 200.0, 400.0, 5, 0), shares=Shares(0.0, 1.0, 0.25))
WITH = replace(
    WITHOUT, scheme="reclaim", cost=replace(COST, own=5_150, kdamond=200), rss=50.0, used=300.0, refaults=7
)
SECOND = [replace(WITHOUT, seed=2), replace(WITH, seed=2, rss=100.0)]


def test_row_shows_medians_and_the_range_of_several_pairs() -> None:
    head, _, row = savings.table(compared([WITHOUT, WITH, *SECOND])).splitlines()
    cells = dict(zip(head.strip("| ").split(" | "), row.strip("| ").split(" | "), strict=True))
    assert cells == {
        "workload": "`zipf`",
        "scheme": "reclaim",
        "rss saved": "62% (50% to 75%)",
        "memory saved": "25%",
        "slowdown": "3.00%",
        "refaults": "0 → 7",
        "kdamond": "2.00%",
        "TLB": "3 → 3",
        "huge": "0% → 0%",
        "near": "100% → 100%",
        "active": "25% → 25%",
        "far": "0 MiB",
    }


def test_shares_that_nobody_knows_are_dashes() -> None:
    arms = [replace(arm, shares=None) for arm in (WITHOUT, WITH)]
    assert "| – | – | – |" in savings.table(compared(arms))


def test_document_has_every_run() -> None:
    document = savings.document([WITHOUT, WITH], {"kernel": "debian:7.3"})
    assert document["kernel"] == "debian:7.3"
    assert [arm["cost"]["own"] for arm in document["arms"]] == [5_000, 5_150]  # type: ignore[index,attr-defined]


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_picture_is_written(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / f"savings.{suffix}"
    savings.save_picture(compared([WITHOUT, WITH]), path, "title")
    assert path.stat().st_size > 1_000


def test_other_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"pictures are written as \.png or \.svg"):
        savings.save_picture([], tmp_path / "a.gif", "title")

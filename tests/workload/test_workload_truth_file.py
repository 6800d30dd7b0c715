# SPDX-License-Identifier: GPL-2.0
"""The saved truth of a program: equal after a round trip, and refused when it is damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from damon_tests.ports import UsageError
from damon_tests.workload import truth_file
from damon_tests.workload.access_truth import AccessTruth
from damon_tests.workload.truth_file import SavedTruth

START = 5_000_000_000


def saved(runs: int = 500, seed: int = 1) -> SavedTruth:
    rng = np.random.default_rng(seed)
    first = START + rng.integers(0, 10**9, runs)
    truth = AccessTruth(
        rng.integers(1 << 20, (1 << 20) + 40, runs),
        first,
        first + rng.integers(0, 5_000_000, runs),
        span_ns=(START, START + 10**9),
        gap_ns=1_000_000,
        mapped=[(1 << 32, (1 << 32) + (1 << 20))],
    )
    return SavedTruth(truth, "redis", "7.3.4", "7.3", "virtual", 1, ((1 << 32, (1 << 32) + (1 << 20)),))


@pytest.mark.parametrize("runs", [0, 1, 500])
def test_round_trip(tmp_path: Path, runs: int) -> None:
    before = saved(runs)
    truth_file.save(tmp_path / "truth.npz", before)
    after = truth_file.load(tmp_path / "truth.npz")
    for name in ("pages", "first_ns", "last_ns"):
        assert getattr(after.truth, name).tolist() == getattr(before.truth, name).tolist()
    assert after.truth.ranges() == before.truth.ranges()
    assert after.truth.span_ns() == before.truth.span_ns()
    assert (after.title, after.release, after.level, after.space) == ("redis", "7.3.4", "7.3", "virtual")
    assert after.mapped == before.mapped


def test_coarser_truth_has_fewer_runs() -> None:
    fine = saved().truth
    coarse = fine.coarser(20_000_000)
    assert len(coarse) < len(fine)
    pages = np.arange(1 << 20, (1 << 20) + 40)
    for start in range(START, START + 10**9, 30_000_000):
        same = fine.touched(pages, start, start + 25_000_000)
        assert (coarse.touched(pages, start, start + 25_000_000) == same).all()


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        truth_file.load(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(UsageError, match="not the truth of a program"):
        truth_file.load(tmp_path / "text.npz")
    truth_file.save(tmp_path / "truth.npz", saved())
    data = (tmp_path / "truth.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(data[: len(data) // 2])
    with pytest.raises(UsageError, match="damaged"):
        truth_file.load(tmp_path / "half.npz")

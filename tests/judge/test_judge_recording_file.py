# SPDX-License-Identifier: GPL-2.0
"""Recordings on disk come back equal, with the truth beside them; anything else is refused in words."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from synthetic_recordings import MS, hot_cold, recording, snapshot

from damon_tests.damon import recording_file
from damon_tests.damon.records import Recording, Snapshot
from damon_tests.judge import metrics
from damon_tests.judge.compare import compare
from damon_tests.judge.spans import spans_of
from damon_tests.judge.windows import windows
from damon_tests.ports import UsageError


def same(a: Recording, b: Recording) -> bool:
    scalars = [f.name for f in fields(Recording) if f.name != "snapshots"]
    return all(getattr(a, n) == getattr(b, n) for n in scalars) and all(
        all(np.array_equal(getattr(x, f.name), getattr(y, f.name)) for f in fields(Snapshot))
        for x, y in zip(a.snapshots, b.snapshots, strict=True)
    )


def test_round_trip_with_truth(tmp_path: Path) -> None:
    truth, _, report = hot_cold(aggregations=5)
    spans = spans_of(truth, windows(report), report.sample_us)
    path = tmp_path / "attempt-1.damon.npz"
    recording_file.save(path, report, spans)
    again, found = recording_file.load(path)
    assert same(report, again)
    assert found is not None
    now = compare(again, windows(again), spans=found)
    assert metrics.recall(now, 0.5) == metrics.recall(compare(report, windows(report), truth), 0.5)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_round_trip_of_everything_optional(tmp_path: Path) -> None:
    snap = replace(
        snapshot(100 * MS, [(1, 2**64 - 1, 3, 2**32 - 1)], target_idx=2),
        complete=False,
        nr_regions=9,
        probe_hits=np.array([[1, 255]], np.uint8),
        sz_filter_passed=np.array([5], np.uint64),
    )
    report = replace(recording([snap]), lost_events=3, addr_unit=4096, intervals=((5, 6000),))
    path = tmp_path / "r.npz"
    recording_file.save(path, report)
    again, truth = recording_file.load(path)
    assert truth is None
    assert same(report, again)


def test_an_empty_recording(tmp_path: Path) -> None:
    recording_file.save(tmp_path / "r.npz", recording([]))
    assert recording_file.load(tmp_path / "r.npz")[0].snapshots == ()


def test_what_is_not_a_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such recording"):
        recording_file.load(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(UsageError, match="not a damon-tests recording"):
        recording_file.load(tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", a=np.arange(3))
    with pytest.raises(UsageError, match="not a damon-tests recording"):
        recording_file.load(tmp_path / "other.npz")


def test_a_newer_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording_file, "VERSION", 2)
    recording_file.save(tmp_path / "r.npz", recording([]))
    monkeypatch.undo()
    with pytest.raises(UsageError, match="version 2, this program reads 1"):
        recording_file.load(tmp_path / "r.npz")

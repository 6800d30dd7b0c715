# SPDX-License-Identifier: GPL-2.0
"""Recordings on disk are read back equal, with their truth; anything else is refused in a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from synthetic_recordings import MS, hot_cold, recording, snapshot

from damon_tests.damon import recording_file
from damon_tests.damon.params import (
    DamonAttrs,
    DamonCtx,
    DamonIntervalsGoal,
    DamonProbe,
    DamonTarget,
    Damos,
    DamosQuota,
    DamosQuotaGoal,
)
from damon_tests.damon.params_json import ctx_from_json
from damon_tests.damon.recording_file import About
from damon_tests.damon.records import Recording, Snapshot
from damon_tests.judge.monitoring import metrics
from damon_tests.judge.monitoring.aggregation_windows import windows
from damon_tests.judge.monitoring.report_vs_truth import compare
from damon_tests.judge.monitoring.true_rates import spans_of
from damon_tests.ports import UsageError


def same(a: Recording, b: Recording) -> bool:
    scalars = [f.name for f in fields(Recording) if f.name != "snapshots"]
    return all(getattr(a, n) == getattr(b, n) for n in scalars) and all(
        all(np.array_equal(getattr(x, f.name), getattr(y, f.name)) for f in fields(Snapshot))
        for x, y in zip(a.snapshots, b.snapshots, strict=True)
    )


def test_recording_with_truth_is_read_back_equal(tmp_path: Path) -> None:
    truth, _, report = hot_cold(aggregations=5)
    spans = spans_of(truth, windows(report), report)
    path = tmp_path / "attempt-1.damon.npz"
    recording_file.save(path, report, spans)
    again, truth_read = recording_file.load(path)
    assert same(report, again)
    assert truth_read is not None
    now = compare(again, windows(again), spans=truth_read)
    assert metrics.recall(now, 0.5) == metrics.recall(compare(report, windows(report), truth), 0.5)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_optional_columns_are_read_back_equal(tmp_path: Path) -> None:
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


def test_request_and_layout_are_read_back(tmp_path: Path) -> None:
    ctx = DamonCtx(
        "vaddr",
        attrs=DamonAttrs(intervals_goal=DamonIntervalsGoal(400, 3, 5000, 10**7), probes=(DamonProbe(2),)),
        targets=(DamonTarget(7, ((0, 4096), (8192, 1 << 63))),),
        schemes=(Damos("pageout", quota=DamosQuota(ms=5, goals=(DamosQuotaGoal(target_value=3),))),),
    )
    about = About("t, attempt 2", "6.12", {"a": (4096, 8192)}, (("warm", -5), ("hot", 9)), ctx)
    recording_file.save(tmp_path / "r.npz", recording([]), None, about)
    assert recording_file.read(tmp_path / "r.npz").about == about


def test_file_without_a_request_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as older:
        older.setattr(recording_file, "_about_header", lambda about: {})
        recording_file.save(tmp_path / "r.npz", recording([]))
    assert recording_file.read(tmp_path / "r.npz").about == About()


@pytest.mark.parametrize("request_", [[], {"operations": 5}, {"attrs": {"sample_us": "5"}}, "x"])
def test_a_malformed_request_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request_: object
) -> None:
    monkeypatch.setattr(recording_file, "_about_header", lambda about: {"request": request_})
    recording_file.save(tmp_path / "r.npz", recording([]))
    with pytest.raises(UsageError, match="not a DAMON request"):
        recording_file.read(tmp_path / "r.npz")


def test_requests_of_other_versions_are_read() -> None:
    assert ctx_from_json({"operations": "paddr", "new": 1, "attrs": {"min_nr_regions": 3}}) == DamonCtx(
        "paddr", attrs=DamonAttrs(min_nr_regions=3)
    )


def test_empty_recording_is_read_back(tmp_path: Path) -> None:
    recording_file.save(tmp_path / "r.npz", recording([]))
    assert recording_file.load(tmp_path / "r.npz")[0].snapshots == ()


def test_file_that_is_no_recording_is_refused(tmp_path: Path) -> None:
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


def arrays(tmp_path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a file with truth, for a test to damage."""
    truth, _, report = hot_cold(aggregations=3)
    recording_file.save(tmp_path / "whole.npz", report, spans_of(truth, windows(report), report))
    with np.load(tmp_path / "whole.npz") as file:
        return dict(file)


def test_damaged_file_is_read_or_refused_in_a_sentence(tmp_path: Path) -> None:
    """Truncated anywhere, or with any byte changed."""
    arrays(tmp_path)
    data, path = (tmp_path / "whole.npz").read_bytes(), tmp_path / "damaged.npz"
    damaged = [data[:length] for length in range(0, len(data), 97)]
    for at in range(0, len(data), 31):
        damaged.append(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])
    refused = []
    for content in damaged:
        path.write_bytes(content)
        try:
            recording_file.read(path)
        except UsageError as error:
            refused.append(str(error))
    assert len(refused) > len(damaged) // 2
    assert all(str(path) in text for text in refused)


@pytest.mark.parametrize(
    ("name", "spoil", "words"),
    [
        ("offset", lambda a: a[::-1], "offset does not ascend"),
        ("offset", lambda a: a[:-1], "offset has 3 elements"),
        ("offset", lambda a: a + 1, "offset does not ascend"),
        ("age", lambda a: a[:-1], "age has"),
        ("start", lambda a: a.astype(float), "start has elements float64"),
        ("nr_accesses", lambda a: a.reshape(-1, 1), "in 2 dimensions"),
        ("complete", lambda a: a[:1], "complete has 1 elements, others 3"),
        ("truth_offset", lambda a: a * 2, "truth_offset does not ascend"),
        ("truth_rate", lambda a: a[:-1], "truth_rate has"),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(
    tmp_path: Path, name: str, spoil: Callable[[np.ndarray], np.ndarray], words: str
) -> None:
    saved = arrays(tmp_path)
    np.savez(tmp_path / "r.npz", **(saved | {name: spoil(saved[name])}))
    with pytest.raises(UsageError, match=f"damaged damon-tests recording.*{words}"):
        recording_file.read(tmp_path / "r.npz")


def with_header(tmp_path: Path, key: str, value: object) -> Path:
    """Write a recording whose header has another value there."""
    saved = arrays(tmp_path)
    header = json.loads(saved["header"].tobytes()) | {key: value}
    saved["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(tmp_path / "r.npz", **saved)
    return tmp_path / "r.npz"


@pytest.mark.parametrize(
    ("key", "value"),
    [("sample_us", "5000"), ("aggr_us", -1), ("addr_unit", 0), ("started_ns", 2**70), ("operations", 5)],
)
def test_a_header_of_other_values_is_refused(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"damaged damon-tests recording .{key} is "):
        recording_file.read(with_header(tmp_path, key, value))


STATS = {"nr_tried": 1, "sz_tried": 4096, "nr_applied": 1, "sz_applied": 4096, "qt_exceeds": 0}
TRIED = {"time_ns": 5, "start": [0], "end": [4096], "nr_accesses": [1], "age": [0], "total_bytes": 4096}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("update_us", "60000"),
        ("goal", {"access_bp": "400"}),
        ("goal", [400]),
        ("damos_stats", [STATS | {"nr_tried": "1"}]),
        ("damos_stats", [5]),
        ("scheme_filters", [{"type": 5}]),
        ("scheme_filters", "anon"),
        ("schemes", [{"stats": STATS | {"sz_tried": None}, "effective_bytes": None, "tried": []}]),
        ("schemes", [{"stats": STATS, "effective_bytes": "8", "tried": []}]),
        ("schemes", [{"stats": STATS, "effective_bytes": 8, "tried": [TRIED | {"time_ns": "5"}]}]),
        ("schemes", [{"stats": STATS, "effective_bytes": 8, "tried": [TRIED | {"age": [0, 1]}]}]),
        ("schemes", [{"stats": STATS, "effective_bytes": 8, "tried": [TRIED | {"end": 4096}]}]),
        ("schemes", [{"stats": STATS, "effective_bytes": 8, "tried": [TRIED | {"total_bytes": True}]}]),
        ("schemes", 5),
        ("intervals", [["x", 5]]),
        ("phases", [5]),
        ("layout", {"a": "xy"}),
    ],
)
def test_values_of_wrong_types_are_refused(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(UsageError, match=r"not a damon-tests recording .missing or bad "):
        recording_file.read(with_header(tmp_path, key, value))


def test_reports_of_the_right_types_are_read(tmp_path: Path) -> None:
    saved = arrays(tmp_path)
    header = json.loads(saved["header"].tobytes())
    header["schemes"] = [{"stats": STATS, "effective_bytes": None, "tried": [TRIED]}]
    saved["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(tmp_path / "r.npz", **saved)
    (report,) = recording_file.read(tmp_path / "r.npz").schemes
    assert (report.stats.sz_tried, report.effective_bytes, report.tried[0].total_bytes) == (4096, None, 4096)

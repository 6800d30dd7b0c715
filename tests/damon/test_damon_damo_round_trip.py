# SPDX-License-Identifier: GPL-2.0
"""Recordings written for damo read back unchanged, except what ``left_out`` names."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from damon_tests.damon import damo_format, damo_import, recording_file
from damon_tests.damon.damo_format import DamoFormat
from damon_tests.damon.keywords import WORDS
from damon_tests.damon.params import (
    DamonAttrs,
    DamonCtx,
    DamonIntervalsGoal,
    Damos,
    DamosFilter,
    DamosQuota,
)
from damon_tests.damon.records import DamosStats, Recording, Snapshot

PAGE, MS = 4096, 1_000_000
COUNT = st.integers(0, 1 << 40)
FILTERS = st.builds(
    DamosFilter,
    type=st.sampled_from(sorted(WORDS["filter_type"])),
    matching=st.booleans(),
    allow=st.booleans(),
    memcg_path=st.sampled_from(["", "/", "/a b/c"]),
    addr_start=COUNT,
    addr_end=COUNT,
    min=COUNT,
    max=COUNT,
    damon_target_idx=st.integers(0, 9),
)
GOALS = st.builds(DamonIntervalsGoal, access_bp=st.integers(0, 10_000), aggrs=st.integers(0, 9))
STATS = st.builds(
    DamosStats,
    nr_tried=COUNT,
    sz_tried=COUNT,
    nr_applied=COUNT,
    sz_applied=COUNT,
    qt_exceeds=COUNT,
    sz_ops_filter_passed=st.none() | COUNT,
    nr_snapshots=st.none() | COUNT,
)
MISSING = st.sets(st.sampled_from(["age", "nr_accesses"])).map(
    lambda names: tuple(n for n in ("nr_accesses", "age") if n in names)
)


@st.composite
def recordings(draw: st.DrawFn, tried: bool) -> Recording:
    """Draw aggregations of a target, or tried regions of a scheme, with any optional data."""
    missing = draw(MISSING)
    snapshots = []
    for i in range(draw(st.integers(1, 3))):
        n = draw(st.integers(1, 3))
        edges = np.cumsum(draw(st.lists(st.integers(1, 9), min_size=n + 1, max_size=n + 1))) * PAGE
        column = st.lists(st.integers(0, 20), min_size=n, max_size=n)
        nr, age = (np.array(draw(column), np.uint32) for _ in range(2))
        passed = (
            draw(st.none() | st.lists(st.integers(1, 1 << 30), min_size=n, max_size=n)) if tried else None
        )
        snapshots.append(
            Snapshot(
                time_ns=(i + 2) * 100 * MS,
                target_idx=0,
                start=edges[:-1].astype(np.uint64),
                end=edges[1:].astype(np.uint64),
                nr_accesses=nr * np.uint32("nr_accesses" not in missing),
                age=age * np.uint32("age" not in missing),
                nr_regions=n,
                sz_filter_passed=None if passed is None else np.array(passed, np.uint64),
                stats=draw(st.none() | STATS) if tried else None,
            )
        )
    return Recording(
        source="tried_regions" if tried else "damon_aggregated",
        operations=draw(st.sampled_from(["vaddr", "paddr"])),
        sample_us=5_000,
        aggr_us=100_000,
        snapshots=tuple(snapshots),
        started_ns=100 * MS,
        stopped_ns=900 * MS,
        missing=missing,
        update_us=draw(st.integers(1, 1 << 30)),
        goal=draw(GOALS),
        scheme_filters=tuple(draw(st.lists(FILTERS, max_size=2))) if tried else (),
    )


def shown(snapshot: Snapshot) -> dict[str, Any]:
    """Return the fields of a snapshot, arrays as lists."""
    values = vars(snapshot)
    return {name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in values.items()}


@pytest.mark.parametrize("tried", [False, True])
@pytest.mark.parametrize("format", get_args(DamoFormat))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_round_trip_keeps_every_field_or_says_what_it_leaves_out(
    format: damo_format.DamoFormat, tried: bool, data: st.DataObject
) -> None:
    recording = data.draw(recordings(tried))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "r"
        damo_format.save(path, recording, format)
        (imported,) = damo_import.load(path, (5_000, 100_000))
    lost = " ".join(damo_format.left_out(recording, format))
    back = imported.recording
    kept = ["sample_us", "aggr_us", "intervals", "addr_unit", "lost_events"]
    if format == "perf_script":
        assert "intervals" in lost
    else:
        kept += ["source", "operations", "started_ns", "stopped_ns", "missing", "update_us", "goal"]
    if "scheme filters" not in lost:
        kept.append("scheme_filters")
    assert {name: getattr(back, name) for name in kept} == {name: getattr(recording, name) for name in kept}
    gone: dict[str, Any] = {"sz_filter_passed": None} if "bytes that passed" in lost else {}
    gone |= {"stats": None} if "statistics" in lost else {}
    for before, after in zip(recording.snapshots, back.snapshots, strict=True):
        assert shown(after) == shown(before) | gone


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(recording=recordings(tried=True))
def test_our_own_file_keeps_every_field(recording: Recording) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "r.npz"
        recording_file.save(path, recording)
        back = recording_file.read(path).recording
    kept = ("missing", "scheme_filters", "update_us", "goal")
    assert [getattr(back, name) for name in kept] == [getattr(recording, name) for name in kept]
    every = all(s.sz_filter_passed is not None for s in recording.snapshots)
    gone: dict[str, Any] = {} if every else {"sz_filter_passed": None}  # all snapshots have it, or none
    for before, after in zip(recording.snapshots, back.snapshots, strict=True):
        assert shown(after) == shown(before) | gone


@given(st.lists(FILTERS, max_size=3), COUNT, COUNT)
def test_noted_request_keeps_what_regions_depend_on(filters: list[DamosFilter], ms: int, size: int) -> None:
    scheme = Damos(
        "pageout", filters=tuple(filters), quota=DamosQuota(ms=ms, bytes=size, reset_interval_ms=7)
    )
    ctx = DamonCtx("paddr", attrs=DamonAttrs(min_nr_regions=11), schemes=(scheme,))
    noted = json.loads(json.dumps(damo_format.damo_params.ctx_to_json(ctx)))
    assert damo_format.damo_params.contexts(noted) == {(0, 0): ctx}
    assert damo_format.damo_params.contexts({"kdamonds": noted}) == {(0, 0): ctx}

# SPDX-License-Identifier: GPL-2.0
"""What schemes reported at the end of a run, as JSON: ``schemes`` of a recording's header."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from damon_tests.damon.params_json import from_json
from damon_tests.damon.records import DamosStats, SchemeReport, Snapshot, TriedRegions

_COLUMNS = ("start", "end", "nr_accesses", "age")


def reports_to_json(reports: Sequence[SchemeReport]) -> list[dict[str, Any]]:
    """Return a JSON value for each scheme, as ``damon.recording_file`` defines it."""
    return [
        {
            "stats": asdict(report.stats),
            "effective_bytes": report.effective_bytes,
            "tried": [_tried_to_json(tried) for tried in report.tried],
        }
        for report in reports
    ]


def reports_from_json(values: Sequence[Mapping[str, Any]]) -> tuple[SchemeReport, ...]:
    """Return the reports of such values. Raises KeyError, TypeError or ValueError for others."""
    return tuple(
        SchemeReport(
            from_json(DamosStats, value["stats"]),
            from_json(int | None, value["effective_bytes"]),
            tuple(_tried_from_json(tried, i) for tried in value["tried"]),
        )
        for i, value in enumerate(values)
    )


def _tried_to_json(tried: TriedRegions) -> dict[str, Any]:
    regions = tried.regions
    columns = {name: getattr(regions, name).tolist() for name in _COLUMNS}
    if regions.sz_filter_passed is not None:
        columns["sz_filter_passed"] = regions.sz_filter_passed.tolist()
    if regions.probe_hits is not None:
        columns["probe_hits"] = regions.probe_hits.tolist()
    return {"time_ns": regions.time_ns, "total_bytes": tried.total_bytes, **columns}


def _tried_from_json(value: Mapping[str, Any], scheme_idx: int) -> TriedRegions:
    passed, hits = value.get("sz_filter_passed"), value.get("probe_hits")
    regions = Snapshot(
        time_ns=from_json(int, value["time_ns"]),
        target_idx=0,
        start=np.array(value["start"], np.uint64),
        end=np.array(value["end"], np.uint64),
        nr_accesses=np.array(value["nr_accesses"], np.uint32),
        age=np.array(value["age"], np.uint32),
        nr_regions=len(value["start"]),
        probe_hits=None if hits is None else np.array(hits, np.uint8),
        sz_filter_passed=None if passed is None else np.array(passed, np.uint64),
    )
    columns = [*(getattr(regions, name) for name in _COLUMNS), regions.sz_filter_passed]
    if any(column.shape != (len(regions),) for column in columns if column is not None):
        raise ValueError("columns of tried regions: they have different lengths")
    return TriedRegions(scheme_idx, from_json(int | None, value["total_bytes"]), regions)

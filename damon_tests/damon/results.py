# SPDX-License-Identifier: GPL-2.0
"""Read the counters and tried regions of a scheme's directories into records."""

from __future__ import annotations

import dataclasses
import errno
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from damon_tests.damon import layout
from damon_tests.damon.records import DamosStats, Snapshot, TriedRegions
from damon_tests.damon.tree_access import TreeAccess
from damon_tests.ports import HarnessError, TreeError


def read_stats(access: TreeAccess, path: str) -> DamosStats:
    """Return the counters below ``path`` (``schemes/S/stats``), None for those that this kernel lacks."""
    fields = dataclasses.fields(DamosStats)
    values: dict[str, int | None] = {}
    paths = [f"{path}/{field.name}" for field in fields]
    for field, file, answer in zip(fields, paths, access.tree.read_batch(paths), strict=True):
        optional = field.default is not dataclasses.MISSING
        if isinstance(answer, TreeError):
            if not (optional and answer.errno == errno.ENOENT):
                raise access.explain(answer)
            values[field.name] = None
        else:
            values[field.name] = int(layout.decode("number", answer, file))
    return DamosStats(**values)  # type: ignore[arg-type]  # None only where the field allows it


def read_tried_regions(access: TreeAccess, path: str, scheme_idx: int) -> TriedRegions:
    """Return the regions below ``path`` (``schemes/S/tried_regions``) in directory order."""
    try:
        entries = access.tree.walk(path)
    except TreeError as error:
        raise access.explain(error) from None
    total: int | None = None
    regions: dict[int, dict[str, int]] = defaultdict(dict)
    for entry in entries:
        if entry.is_dir:
            continue
        if entry.value is None:
            raise (
                access.explain(entry.error)
                if entry.error
                else HarnessError(f"{path}/{entry.path} is unreadable")
            )
        value = int(layout.decode("number", entry.value, f"{path}/{entry.path}"))
        index, _, name = entry.path.partition("/")
        if name:
            regions[int(index)][name] = value
        elif index == "total_bytes":
            total = value
    rows = [regions[i] for i in sorted(regions)]
    return TriedRegions(scheme_idx, total, _snapshot(rows, path, access.clock.now_ns()))


def _snapshot(rows: Sequence[Mapping[str, int]], path: str, now_ns: int) -> Snapshot:
    def column(name: str, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        try:
            return np.array([row[name] for row in rows], dtype)
        except KeyError:
            raise HarnessError(f"{path}: a region has no file {name!r}") from None

    hits = sorted((name for row in rows[:1] for name in row if name.startswith("probes/")), key=_probe_index)
    return Snapshot(
        time_ns=now_ns,
        target_idx=0,
        start=column("start", np.uint64),
        end=column("end", np.uint64),
        nr_accesses=column("nr_accesses", np.uint32),
        age=column("age", np.uint32),
        nr_regions=len(rows),
        probe_hits=np.stack([column(name, np.uint8) for name in hits], axis=1) if hits else None,
        sz_filter_passed=(
            column("sz_filter_passed", np.uint64) if rows and "sz_filter_passed" in rows[0] else None
        ),
    )


def _probe_index(name: str) -> int:
    return int(name.split("/")[1])

# SPDX-License-Identifier: GPL-2.0
"""``damon-tests faults --kinds``: kinds of kernel bugs, faults that imitate them, and who notices each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from damon_tests import bundle
from damon_tests.reference.faults.catalogue import catalogue


@dataclass(frozen=True)
class FaultKind:
    """``suites``: the files whose subject the kind is. ``killed_by``: a test of theirs for each fault, "" if
    none notices it."""

    kind: str
    suites: tuple[str, ...]
    killed_by: Mapping[str, str]

    @property
    def killed(self) -> int:
        return sum(bool(test) for test in self.killed_by.values())


def kinds() -> Sequence[FaultKind]:
    """Return the rows of ``suites/fault_kinds.yaml``."""
    text = (bundle.suites_dir() / "fault_kinds.yaml").read_text(encoding="utf-8")
    rows: list[dict[str, Any]] = yaml.safe_load(text)
    return [
        FaultKind(
            row["kind"],
            tuple(row["suites"]),
            {name: row.get("killed_by", {}).get(name, "") for name in row["faults"]},
        )
        for row in rows
    ]


def show_kinds(*, as_json: bool = False) -> int:
    """Print the table; 0, or 1 when a fault is noticed by no test of its kind."""
    table = kinds()
    if as_json:
        rows = [{"kind": k.kind, "suites": list(k.suites), "killed_by": dict(k.killed_by)} for k in table]
        print(json.dumps(rows, indent=1))
    else:
        known = catalogue()
        for row in table:
            print(f"{row.kind}: {row.killed} of {len(row.killed_by)} killed by {', '.join(row.suites)}")
            for name, test in row.killed_by.items():
                print(f"  {name}: {known[name].imitates}")
                print(f"    {test or 'SURVIVES'}")
    return int(any(row.killed < len(row.killed_by) for row in table))

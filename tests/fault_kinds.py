# SPDX-License-Identifier: GPL-2.0
"""Find which test of a kind's own suites notices which fault: ``python tests/fault_kinds.py [KIND...]``

Writes ``killed_by`` of the chosen kinds (default: all) in ``suites/fault_kinds.yaml``. Ends with 1 when a
fault survives.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from damon_tests.commands.faults import run_kill_matrix

SUITES = Path(__file__).resolve().parent.parent / "suites"
TABLE = SUITES / "fault_kinds.yaml"


def killers(row: dict[str, Any]) -> dict[str, str]:
    """Return the first test that notices each fault of a kind, "" for none, by fault."""
    paths = [f"suites/{path}" for path in row["suites"]]
    with tempfile.TemporaryDirectory() as scratch:
        run_kill_matrix(row["faults"], (), paths, output=Path(scratch), first_killer=True)
        kept = json.loads((Path(scratch) / "kill.json").read_text(encoding="utf-8"))
    return {kill["fault"]: (kill["killers"] or [""])[0] for kill in kept["faults"]}


def keep(kind: str, killed_by: dict[str, str]) -> None:
    """Write which test kills which fault of a kind; other kinds may be measured at the same time."""
    text = TABLE.read_text(encoding="utf-8")
    head = text[: text.index("\n- ") + 1]
    rows = yaml.safe_load(text)
    for row in rows:
        if row["kind"] == kind:
            row["killed_by"] = killed_by
    TABLE.write_text(head + yaml.safe_dump(rows, sort_keys=False, width=130), encoding="utf-8")


def main(chosen: list[str]) -> int:
    survivors = 0
    for row in yaml.safe_load(TABLE.read_text(encoding="utf-8")):
        if not chosen or row["kind"] in chosen:
            killed_by = killers(row)
            keep(row["kind"], killed_by)
            survivors += sum(not test for test in killed_by.values())
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

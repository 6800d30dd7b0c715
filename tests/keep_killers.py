# SPDX-License-Identifier: GPL-2.0
"""Add what a kill matrix measured to suites/killers.yaml: python tests/keep_killers.py KILL.JSON ..."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from damon_tests import bundle
from damon_tests.commands.killers import killers
from damon_tests.judge.features import ROW
from damon_tests.reference.faults.catalogue import catalogue


def main(paths: list[str]) -> None:
    kept = dict(killers())
    for path in paths:
        for row in json.loads(Path(path).read_text())["faults"]:
            if row["killers"]:
                # Any test shows what ROW says, but a test says more.
                kept[row["fault"]] = next((name for name in row["killers"] if name != ROW), ROW)
            else:
                kept.pop(row["fault"], None)
    file = bundle.suites_dir() / "killers.yaml"
    head = [line for line in file.read_text().splitlines() if line.startswith("#")]
    rows = [f"{name}: {kept[name]}" for name in catalogue() if name in kept]
    file.write_text("\n".join([*head, "", *rows]) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])

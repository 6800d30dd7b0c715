# SPDX-License-Identifier: GPL-2.0
"""Which of the reference's own tests notice which fault: ``kill_faults.py [--jobs N] [--keep] [FAULT...]``

Runs the tests once without a fault, which must pass, then once for each fault until the first failure.
Ends with 1 when a fault survives.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from damon_tests.reference.faults import catalogue

HERE = Path(__file__).parent
KEPT = HERE / "kills.txt"
TIMEOUT_S = 600
# The quickest first, and those that notice most.
ORDER = (
    "vectors",
    "regions",
    "tree",
    "damos",
    "actions",
    "kdamond",
    "commit",
    "memory",
    "appendix",
    "abi",
    "modules",
    "batch",
)
# Faults of these areas are noticed by these first.
FIRST = {"actions": ("actions", "memory"), "modules": ("modules",), "tree": ("tree", "abi")}


def known_killers() -> dict[str, str]:
    """By fault the test that noticed it in the matrix that is kept: tried first, which saves time."""
    lines = KEPT.read_text().splitlines() if KEPT.exists() else []
    return {words[1]: words[2] for line in lines if "::" in line and (words := line.split())}


def killer(name: str, known: str = "") -> str:
    """The first test that fails with this fault, as file::test; empty when all pass."""
    try:
        first = _failed(name, [str(HERE / known)]) if known else ""
        area = catalogue()[name].area if name else ""
        order = sorted(ORDER, key=lambda part: part not in FIRST.get(area, ()))
        return first or _failed(name, [str(HERE / f"test_reference_{part}.py") for part in order])
    except subprocess.TimeoutExpired:
        return f"(not done after {TIMEOUT_S} s)"


def _failed(name: str, tests: list[str]) -> str:
    run = _pytest(name, tests)
    failed = re.search(r"^(?:FAILED|ERROR) \S*?(test_\w+\.py::\w+)", run.stdout, re.MULTILINE)
    if run.returncode in (0, 4) or failed:  # 4: a known test that is no more
        return failed.group(1) if failed else ""
    return f"(pytest ended with {run.returncode})"


def _pytest(name: str, files: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *files],
        env={**os.environ, "DAMON_TESTS_FAULT": name},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )


def matrix(names: list[str], jobs: int) -> list[str]:
    """Lines of the table, printed as they come; the last one says who survives."""
    catalogued = catalogue()
    started = time.monotonic()
    if failed := killer(""):
        return [f"without a fault {failed} fails: nothing can be told"]
    lines, survivors = [], []
    known = known_killers()
    with ThreadPoolExecutor(jobs) as pool:
        found = pool.map(lambda name: killer(name, known.get(name, "")), names)
        for name, test in zip(names, found, strict=True):
            lines.append(f"{catalogued[name].area:14} {name:32} {test or 'SURVIVES'}")
            print(f"[{len(lines)}/{len(names)}] {lines[-1]}", flush=True)
            if not test:
                survivors.append(name)
    seconds = time.monotonic() - started
    lines.append(f"{len(names) - len(survivors)} of {len(names)} faults are killed, in {seconds:.0f} s")
    if survivors:
        lines.append(f"SURVIVE: {', '.join(survivors)}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="faults at a time")
    parser.add_argument("--keep", action="store_true", help=f"write the table to {KEPT.name}")
    parser.add_argument("faults", nargs="*", metavar="FAULT", help="default: all")
    args = parser.parse_args()
    lines = matrix(args.faults or list(catalogue()), args.jobs)
    if args.keep:
        KEPT.write_text(
            "\n".join(["# Made by kill_faults.py: which test notices which fault.", *lines]) + "\n"
        )
    print("\n".join(line for line in lines[-2:] if "fault" in line or "SURVIVE:" in line))
    return 0 if "faults are killed" in lines[-1] else 1


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: GPL-2.0
"""Which of the reference's own tests notice which fault: ``kill_faults.py [--jobs N] [FAULT...]``

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


def killer(name: str) -> str:
    """The first test that fails with this fault; empty when all pass."""
    files = [str(HERE / f"test_reference_{part}.py") for part in ORDER]
    try:
        run = _pytest(name, files)
    except subprocess.TimeoutExpired:
        return f"(not done after {TIMEOUT_S} s)"
    failed = re.search(r"^(?:FAILED|ERROR) \S*?::(\S+)", run.stdout, re.MULTILINE)
    if run.returncode and not failed:
        return f"(pytest ended with {run.returncode})"
    return failed.group(1) if failed else ""


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
    with ThreadPoolExecutor(jobs) as pool:
        for name, test in zip(names, pool.map(killer, names), strict=True):
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
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the table there as well")
    parser.add_argument("faults", nargs="*", metavar="FAULT", help="default: all")
    args = parser.parse_args()
    lines = matrix(args.faults or list(catalogue()), args.jobs)
    if args.table:
        args.table.write_text("\n".join(lines) + "\n")
    print("\n".join(line for line in lines[-2:] if "fault" in line or "SURVIVE:" in line))
    return 0 if "faults are killed" in lines[-1] else 1


if __name__ == "__main__":
    sys.exit(main())

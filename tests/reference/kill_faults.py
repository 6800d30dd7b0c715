# SPDX-License-Identifier: GPL-2.0
"""Which of the reference's own tests notice which fault: ``kill_faults.py [FAULT...]``

Runs the tests once for each fault, until the first failure. Ends with 1 when a fault survives.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
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


def main(names: list[str]) -> int:
    survivors = []
    for name in names or list(catalogue()):
        test = killer(name)
        print(f"{name:32} {test or 'SURVIVES'}", flush=True)
        if not test:
            survivors.append(name)
    print(f"{len(survivors)} survive: {', '.join(survivors)}" if survivors else "all are killed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

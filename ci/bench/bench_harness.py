#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Measure the harness's own cost: from start to collection of all suites, and per test beside the experiment.

Goals: collection <= 2 s; <= 50 ms per test beside restore and waiting for DAMON. Prints a line per figure;
--json prints all of them as JSON, too. ``--kernel K`` measures on that kernel (default: the reference).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TESTS = 20
SUITE = f"""
import pytest
from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.judge.verdict import Check, Measurement

@pytest.mark.parametrize("n", range({TESTS}))
def test(experiment, expect, n):
    observation = experiment("hot_cold", DamonCtx(attrs=DamonAttrs()), seconds=0.3).observe()
    count = len(observation.recording.snapshots)
    expect.add(Check("invariant", Measurement("snapshots", count, "count"), ">= 1", "it ran", count >= 1))
"""


def run(*arguments: str, cwd: Path) -> float:
    """Return the wall time of a ``damon-tests run`` in s; end the benchmark if the run fails."""
    began = time.monotonic()
    command = [sys.executable, "-m", "damon_tests.cli", "run", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 5):
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return time.monotonic() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kernel", default="reference")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        here = Path(scratch)
        collection = [run("--pytest=--collect-only", "--pytest=-q", cwd=here) for _ in range(args.runs)]
        (here / "test_bench.py").write_text(SUITE)
        run(f"--kernel={args.kernel}", "--output=out", "test_bench.py", cwd=here)
        tests = json.loads((here / "out" / "run.json").read_text())["tests"]
    own = [
        t["duration_s"] - sum(sum(a["timings"].values()) for a in t["attempts"])
        for t in tests[1:]  # the first also opens the kernel
    ]
    figures = {
        "collection_s": {"median": statistics.median(collection), "all": collection, "goal": 2.0},
        "harness_per_test_s": {"median": statistics.median(own), "max": max(own), "goal": 0.05},
    }
    print(f"start to collection of all suites: median {statistics.median(collection):.2f} s (goal 2 s)")
    print(
        f"harness cost of a test on {args.kernel}: median {statistics.median(own) * 1e3:.0f} ms,"
        f" worst {max(own) * 1e3:.0f} ms of {len(own)} (goal 50 ms)"
    )
    if args.json:
        print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())

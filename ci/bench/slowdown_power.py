#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Show how often a workload's slowdown is judged right: real pairs, and slowdowns planted in them.

    slowdown_power.py --kernel debian:7.3 [--pattern hot_cold] [--pairs 40] [--json FILE]

Each pair is a window of the workload without DAMON and one with it, in one guest, as
``suites/overhead/test_slowdown.py`` measures them. From the measured pairs 1,000 runs are drawn, with
replacement, and each is judged as the suite does, after 10, 20 and 40 pairs: as it is, and with the costs of
windows with DAMON multiplied by 1 and a slowdown. What was measured is kept in FILE.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from damon_tests.damon.params import DamonAttrs
from damon_tests.experiment.kernel_request import KernelRequest
from damon_tests.experiment.open_backend import open_backend
from damon_tests.judge.cost.budget import Budget, Limit, Pair, overheads, paired
from damon_tests.patterns.load import load
from damon_tests.ports import DamonTestsError, UsageError, output_file
from damon_tests.scenario.slowdown import slowdown

PLANTED = (0.01, 0.03)
RUNS = 1000
LIMIT = Limit(0.02, "slowdown.workload of suites/overhead/budgets.yaml")
BUDGET = Budget("slowdown.workload", "fraction", "what users accept", {"any": LIMIT})
WORDS = {True: "PASS", False: "FAIL", None: "INCONCLUSIVE"}


def outcomes(pairs: Sequence[Pair], slower: float = 0.0, runs: int = RUNS, seed: int = 1) -> Counter[str]:
    """Return how often each verdict is given in runs drawn from ``pairs``, with ``slower`` planted."""
    rng = np.random.default_rng(seed)
    planted = [Pair(p.without, p.with_ * (1 + slower)) for p in pairs]
    counts: Counter[str] = Counter()
    for _ in range(runs):
        check = paired(BUDGET, LIMIT, lambda: planted[int(rng.integers(len(planted)))])
        counts[WORDS[check.holds]] += 1
    return counts


def report(pairs: Sequence[Pair], seconds: float) -> list[str]:
    values = overheads(pairs)
    low, middle, high = np.percentile(values, [5, 50, 95])
    lines = [
        f"{len(pairs)} pairs in {seconds:.0f} s; slowdown {middle:+.3%} in the median,"
        f" 5th to 95th percentile {low:+.3%} to {high:+.3%}"
    ]
    for slower in (0.0, *PLANTED):
        words = f"planted +{slower:.0%}" if slower else "as measured"
        counts = ", ".join(f"{count} {word}" for word, count in outcomes(pairs, slower).most_common())
        lines.append(f"{words:<12} of {RUNS} runs: {counts}")
    return lines


def measure(kernel: str, pattern: str, count: int) -> tuple[list[Pair], float]:
    """Return real pairs, and the seconds that they took."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        open_backend(KernelRequest(kernel), Path(scratch)) as backend,
        slowdown(backend, load(pattern), DamonAttrs()) as measured,
    ):
        began = time.monotonic()
        pairs = [measured.pair() for _ in range(count)]
        return pairs, time.monotonic() - began


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kernel", default="debian:newest")
    parser.add_argument("--pattern", default="hot_cold")
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    try:
        if options.pairs < 1:
            raise UsageError(f"--pairs {options.pairs}: at least one pair is needed")
        pairs, seconds = measure(options.kernel, options.pattern, options.pairs)
        if options.json is not None:
            content = {"kernel": options.kernel, "pattern": options.pattern, "seconds": seconds}
            kept = content | {"pairs": [[p.without, p.with_] for p in pairs]}
            output_file.write_text(options.json, json.dumps(kept) + "\n")
    except DamonTestsError as error:
        print(f"slowdown_power: {error}", file=sys.stderr)
        return error.exit_code
    print("\n".join(report(pairs, seconds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

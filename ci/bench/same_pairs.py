#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Show how often ``damon-tests compare`` is right: real pairs of one kernel, and increases planted in them.

    same_pairs.py --kernel debian:7.3 [--pairs 20] [--benchmark check.fvaddr] [--json FILE]

Each pair measures the same kernel twice, in guests with other seeds, so nothing became dearer. The second
measurement of a pair, multiplied by 1 and an increase, is what a kernel that is dearer by that would have
given. Prints how many pairs are the same, and how many planted increases are found. What was measured is
kept in FILE after each pair; a run that was interrupted goes on from there.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from damon_tests.experiment.backend import Backend
from damon_tests.experiment.kernel_request import KernelRequest
from damon_tests.experiment.open_backend import open_backend
from damon_tests.judge.cost.compare import compare
from damon_tests.judge.cost.samples import CostSamples
from damon_tests.ports import DamonTestsError, UsageError, output_file
from damon_tests.scenario.cost_catalogue import BY_NAME

PLANTED = (0.005, 0.03)

Pair = tuple[tuple[float, ...], tuple[float, ...]]
"""The samples of two measurements of one kernel."""


def outcomes(pairs: Sequence[Pair], increase: float = 0.0) -> Counter[str]:
    """Return the number of pairs by what is said about their second measurement, made dearer by
    ``increase``."""
    counts: Counter[str] = Counter()
    for before, after in pairs:
        dearer = tuple(value * (1 + increase) for value in after)
        old, new = (CostSamples("metric", "instructions", values) for values in (before, dearer))
        counts[compare({"metric": old}, {"metric": new})[0].outcome] += 1
    return counts


def report(pairs: Sequence[Pair]) -> list[str]:
    spreads = [max(*a, *b) / min(*a, *b) - 1 for a, b in pairs]
    lines = [f"{len(pairs)} pairs; all windows of a pair are within {max(spreads):.3%} of each other"]
    for increase in (0.0, *PLANTED):
        words = f"planted +{increase:.1%}" if increase else "identical"
        counts = ", ".join(f"{count} {word}" for word, count in outcomes(pairs, increase).most_common())
        lines.append(f"{words:<15} {counts}")
    return lines


def take(backend: Backend, benchmark: str, seed: int) -> tuple[float, ...]:
    return BY_NAME[benchmark].run(backend, seed)[0].values


def kept(file: Path | None, about: dict[str, str]) -> list[Pair]:
    """Return the pairs of an interrupted run. Raises UsageError for another kernel's or benchmark's."""
    if file is None or not file.exists():
        return []
    try:
        content = json.loads(file.read_text())
        old, pairs = content["about"], [(tuple(a), tuple(b)) for a, b in content["pairs"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file} holds no pairs ({error}); name another file") from None
    if old != about:
        raise UsageError(f"{file} holds pairs of {old}, not of {about}; name another file")
    return pairs


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kernel", default="debian:newest")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--benchmark", default="check.fvaddr", choices=sorted(BY_NAME))
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    about = {"kernel": options.kernel, "benchmark": options.benchmark}
    try:
        pairs = kept(options.json, about)
        with (
            tempfile.TemporaryDirectory() as scratch,
            open_backend(KernelRequest(options.kernel), Path(scratch)) as backend,
        ):
            for number in range(len(pairs), options.pairs):
                first, second = (take(backend, options.benchmark, 2 * number + i) for i in (1, 2))
                pairs.append((first, second))
                print(f"pair {number + 1}: {'; '.join(report(pairs)[1:])}", file=sys.stderr, flush=True)
                if options.json is not None:
                    output_file.write_text(options.json, json.dumps({"about": about, "pairs": pairs}) + "\n")
    except DamonTestsError as error:
        print(f"same_pairs: {error}", file=sys.stderr)
        return error.exit_code
    print("\n".join(report(pairs)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Speed of the workload engine: accesses per millisecond, and what truth and visibility cost.

    bench_engine.py [--seconds S] [--rounds N] [--masim PATH] [--json]

Passes follow each other without pause. All variants (and masim, on the same sizes and strides) take
turns in one run, so that a busy machine slows all of them alike; figures are medians of the rounds.
"log" is what every target has (the pass log, exact truth); "no truth" leaves it out; "slices" adds
touched-page bitmaps every 5 ms; "flush" drops cached translations before each pass.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from damon_tests.kernel.host import LocalMachine
from damon_tests.kernel.programs import program
from damon_tests.patterns.spec import Access, Pattern, PatternRegion, Phase
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_SEC
from damon_tests.workload import engine

MIB = 1 << 20


@dataclass(frozen=True)
class Case:
    """One access of a whole region."""

    name: str
    size_mib: int
    random: bool
    stride: int

    def pattern(self, flush: bool) -> Pattern:
        access = Access(
            "a",
            0,
            self.size_mib * MIB,
            "random" if self.random else "sequential",
            stride_bytes=self.stride,
            # A period that no pass keeps: the next one is always due.
            period_ns=1,
            touches=16384 if self.random else 0,
        )
        return Pattern(
            name=self.name,
            reason="benchmark",
            # masim leaves huge pages to the system, too.
            regions=(PatternRegion("a", self.size_mib * MIB, hugepage=None),),
            phases=(Phase("all", 3600 * NSEC_PER_SEC, (access,)),),
            visible="flush" if flush else "natural",
        )

    def masim(self, milliseconds: int) -> str:
        return (
            f"#regions\na, {self.size_mib * MIB}\n\n#phases\nall\n{milliseconds}\n"
            f"a, {int(self.random)}, {self.stride}, 1\n"
        )


CASES = (
    Case("sequential 10 MiB, a touch a page", 10, False, 4096),
    Case("sequential 100 MiB, a touch a page", 100, False, 4096),
    Case("sequential 10 MiB, a touch each 64 bytes", 10, False, 64),
    Case("random 2 MiB", 2, True, 64),
    Case("random 100 MiB", 100, True, 64),
)


@dataclass(frozen=True)
class Variant:
    """How the engine is run."""

    name: str
    log: bool = True
    slices_ns: int | None = None
    flush: bool = False


VARIANTS = (
    Variant("no truth", log=False),
    Variant("log"),
    Variant("log + slices", slices_ns=5 * NSEC_PER_MSEC),
    Variant("log + flush", flush=True),
)


def run_engine(machine: LocalMachine, case: Case, variant: Variant, seconds: float) -> float:
    """Accesses per millisecond."""
    path = str(program("damon-tests-engine"))
    with tempfile.TemporaryDirectory(dir="/dev/shm") as work_dir:
        pattern = case.pattern(variant.flush)
        target = engine.start(
            machine, pattern, 1, path, work_dir, slices_ns=variant.slices_ns, pass_log=variant.log
        )
        try:
            target.go()
            machine.clock.run_for(int(seconds * NSEC_PER_SEC))
        finally:
            target.stop()
        status = target.status()
    return status.terms[0, 0].accesses * NSEC_PER_MSEC / (status.stopped_ns - status.go_ns)


def run_masim(binary: str, case: Case, seconds: float) -> float:
    """Accesses per millisecond, as it reports them."""
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "config"
        config.write_text(case.masim(int(seconds * 1000)), encoding="utf-8")
        done = subprocess.run([binary, str(config)], capture_output=True, text=True, check=True)
    found = re.search(r"([\d,]+) accesses/msec", done.stdout)
    if found is None:
        raise SystemExit(f"{binary} did not print accesses/msec: {done.stdout}{done.stderr}")
    return float(found[1].replace(",", ""))


def measure(case: Case, arguments: argparse.Namespace) -> dict[str, list[float]]:
    machine = LocalMachine()
    samples: dict[str, list[float]] = {}
    for _ in range(arguments.rounds):
        for variant in VARIANTS:
            speed = run_engine(machine, case, variant, arguments.seconds)
            samples.setdefault(variant.name, []).append(speed)
        if arguments.masim:
            samples.setdefault("masim", []).append(run_masim(arguments.masim, case, arguments.seconds))
    return samples


def show(case: Case, samples: dict[str, list[float]]) -> None:
    medians = {name: statistics.median(values) for name, values in samples.items()}
    print(case.name)
    for name, value in medians.items():
        text = f"  {name:14} {value:10,.0f} accesses/ms"
        if name.startswith("log"):
            text += f"   {value / medians['no truth']:.3f} of no truth"
        if "masim" in medians and name != "masim":
            text += f"   {value / medians['masim']:.2f} x masim"
        print(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each run (default %(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=5, help="how often all take turns (default %(default)s)"
    )
    parser.add_argument("--masim", help="a masim binary to compare with")
    parser.add_argument("--json", action="store_true", help="print only all samples, as JSON")
    arguments = parser.parse_args()
    results = {}
    for case in CASES:
        results[case.name] = samples = measure(case, arguments)
        if not arguments.json:
            show(case, samples)
    if arguments.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()

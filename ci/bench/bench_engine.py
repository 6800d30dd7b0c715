#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Measure the workload engine: accesses per millisecond of a CPU, and what truth and visibility cost.

    bench_engine.py [--seconds S] [--rounds N] [--masim PATH] [--json]

Each case is a masim configuration, which the engine imports: turns of 131,072 accesses without pause. All
variants (and masim, on the same text) take turns in a single run, and times are CPU times, so that a busy
machine slows all variants alike. Figures are medians of the rounds, and medians and ranges of the ratios to
masim.
"log" is what every target has (the pass log, exact truth); "no truth" leaves it out; "slices" adds
touched-page bitmaps every 5 ms; "flush" drops cached translations before each pass.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from damon_tests.kernel.host.machine import LocalMachine
from damon_tests.kernel.images.programs import program
from damon_tests.patterns import masim
from damon_tests.patterns.spec import Pattern
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_SEC
from damon_tests.workload import engine

MIB = 1 << 20


@dataclass(frozen=True)
class Case:
    """An access to a whole region."""

    name: str
    size_mib: int
    random: bool
    stride: int

    def pattern(self, flush: bool) -> Pattern:
        """Return masim's configuration, imported unchanged."""
        imported = masim.parse(self.masim(3_600_000), name="bench")
        return replace(imported, visible="flush" if flush else "natural")

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
    """Options with which the engine runs."""

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
            before = cpu_ns(target.pid)
            target.go()
            machine.clock.run_for(int(seconds * NSEC_PER_SEC))
            accesses = sum(target.accesses().values())
            used = cpu_ns(target.pid) - before
        finally:
            target.stop()
    return accesses * NSEC_PER_MSEC / used


def cpu_ns(pid: int) -> int:
    """Return the CPU time of a process's first thread."""
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split(maxsplit=1)[0])


def run_masim(binary: str, case: Case, seconds: float) -> float:
    """Return the accesses per millisecond that masim reports, per share of the CPU that it had."""
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "config"
        config.write_text(case.masim(int(seconds * 1000)), encoding="utf-8")
        began, used = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([binary, str(config)], capture_output=True, text=True, check=True)
        wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    rate = re.search(r"([\d,]+) accesses/msec", done.stdout)
    if rate is None:
        raise SystemExit(f"{binary} did not print accesses/msec: {done.stdout}{done.stderr}")
    return float(rate[1].replace(",", "")) * wall / cpu


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
            ratios = [ours / theirs for ours, theirs in zip(samples[name], samples["masim"], strict=True)]
            text += f"   {statistics.median(ratios):.2f} x masim ({min(ratios):.2f} to {max(ratios):.2f})"
        print(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    # In shorter runs on a busy machine, page faults dominate the time.
    parser.add_argument("--seconds", type=float, default=2, help="of each run (default %(default)s)")
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

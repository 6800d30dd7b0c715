# SPDX-License-Identifier: GPL-2.0
"""Start engines in a test, stop them after it, and read their mappings from the kernel."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from damon_tests.kernel.host.machine import LocalMachine
from damon_tests.patterns.load import parse
from damon_tests.patterns.spec import Pattern
from damon_tests.ports import NSEC_PER_SEC, Pages, page_size
from damon_tests.workload import engine
from damon_tests.workload.engine import EngineTarget
from damon_tests.workload.slice_truth import SliceTruth

TIMEOUT_NS = 30 * NSEC_PER_SEC


def slices_of_one(truth: SliceTruth) -> list[tuple[int, int]]:
    """Return [start, end) of each slice of a target with one thread."""
    (slices,) = truth.workers
    return list(zip(slices.starts_ns.tolist(), slices.ends_ns.tolist(), strict=True))


def pattern(region: str, accesses: str = "", actions: str = "", more: str = "") -> str:
    return (
        f"{{reason: r, repeat: false, {more} regions: [{region}], phases: "
        f"[{{name: p, duration: 30 ms, accesses: [{accesses}], actions: [{actions}]}}]}}"
    )


def smaps(target: EngineTarget, name: str, offset: int = 0) -> dict[str, str]:
    """Return the fields of /proc/PID/smaps of the mapping at this offset of a region, and its ``path``."""
    address = target.layout[name][0] + offset
    vma: dict[str, str] = {}
    inside = False
    for line in Path(f"/proc/{target.pid}/smaps").read_text(encoding="utf-8").splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            start, end = (int(word, 16) for word in words[0].split("-"))
            inside = start <= address < end
            if inside:
                vma = {"path": " ".join(words[5:]), "start": str(start), "end": str(end)}
        elif inside:
            vma[words[0][:-1]] = " ".join(words[1:])
    return vma


def pages_of(target: EngineTarget) -> Pages:
    """Return the pages of all its regions."""
    return np.concatenate([np.arange(a // page_size(), b // page_size()) for a, b in target.layout.values()])


def kib(text: str) -> int:
    return int(text.split(maxsplit=1)[0])


class Starter:
    """Starts targets, and stops those that a test left running."""

    def __init__(self, machine: LocalMachine, engine_path: str, work_dir: Path) -> None:
        self.machine, self.engine_path, self.work_dir = machine, engine_path, work_dir
        self.started: list[EngineTarget] = []

    def __call__(self, pattern: Pattern | str, seed: int = 7, slices_ns: int | None = None) -> EngineTarget:
        if isinstance(pattern, str):
            pattern = parse(pattern, default_name="tiny")
        target = engine.start(
            self.machine, pattern, seed, self.engine_path, str(self.work_dir), slices_ns=slices_ns
        )
        self.started.append(target)
        return target

    def run_until_phase(self, target: EngineTarget, number: int) -> None:
        """Wait until the phase with this running number has begun."""
        clock = self.machine.clock
        begun = clock.wait_until(lambda: len(target.phases()) > number, clock.now_ns() + TIMEOUT_NS)
        assert begun, target.status()

    def run_until_slice(self, target: EngineTarget, number: int) -> None:
        """Wait until this many touched-page slices are complete."""
        clock = self.machine.clock
        over = clock.wait_until(lambda: target.status().slices_logged >= number, clock.now_ns() + TIMEOUT_NS)
        assert over, target.status()

    def run_to_the_end(self, target: EngineTarget) -> None:
        """Let a pattern that does not repeat go, wait until its last phase is over, and stop it."""
        target.go()
        clock, last = self.machine.clock, len(target.pattern.phases)
        over = clock.wait_until(
            lambda: len(target.phases()) == last and target.phases()[-1].end_ns is not None,
            clock.now_ns() + TIMEOUT_NS,
        )
        assert over, target.status()
        target.stop()

# SPDX-License-Identifier: GPL-2.0
"""``damon-tests workload``: a pattern performed by a real process on this machine, and what it did.

For whatever is to watch such a process: a DAMON set up by hand, damo, perf.
"""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

from damon_tests.kernel.host.machine import LocalMachine
from damon_tests.kernel.images.programs import ENGINE, program
from damon_tests.patterns import masim
from damon_tests.patterns.load import load
from damon_tests.patterns.spec import Pattern
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_SEC, Clock, UsageError
from damon_tests.report import wording
from damon_tests.workload import engine
from damon_tests.workload.engine import EngineTarget

_POLL_NS = 100 * NSEC_PER_MSEC
_MAX_SECONDS = 1e9


def perform_pattern(
    name: str,
    *,
    seconds: float | None = None,
    seed: int = 0,
    options: masim.Options = masim.NO_OPTIONS,
) -> int:
    """Perform a pattern of the library, or of a file (YAML, or masim's), until its last phase is over,
    ``seconds`` passed, or Ctrl-C. ``options``: for masim's configurations only.

    Raises UsageError (no such pattern, bad file), NotSupported (this machine cannot do it).
    """
    if seconds is not None and not 0 < seconds <= _MAX_SECONDS:
        raise UsageError(f"--seconds {seconds:g} is no time: give more than 0, and at most {_MAX_SECONDS:g}")
    pattern = load(name, options)
    machine = LocalMachine()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(dir=_memory_directory()) as work_dir:
        target = engine.start(machine, pattern, seed, str(program(ENGINE)), work_dir)
        try:
            for line in beginning(target):
                print(line, flush=True)
            target.go()
            _follow(target, machine.clock, seconds)
        except KeyboardInterrupt:
            print("stopped")
        finally:
            target.stop()
        for line in outcome(target):
            print(line)
    return 0


def _memory_directory() -> str | None:
    """What the engine publishes is best kept off disks."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def beginning(target: EngineTarget) -> Iterator[str]:
    """Return a line: who performs the pattern, and where."""
    yield f"{target.pattern.name}: {target.pattern.reason}"
    yield f"pid {target.pid}"
    for number, pid in sorted(target.pids.items())[1:]:
        yield f"pid {pid} (process {number})"
    for name, (start, end) in target.layout.items():
        yield f"  region {name:<16} {start:#x}-{end:#x}  {wording.size(end - start)}"


def _follow(target: EngineTarget, clock: Clock, seconds: float | None) -> None:
    """Print each phase once, as it begins, until the end."""
    began = clock.now_ns()
    until = None if seconds is None else began + int(seconds * NSEC_PER_SEC)
    once, printed = len(target.pattern.phases), 0
    while until is None or clock.now_ns() < until:
        phases = target.phases()
        for phase in phases[printed:once]:
            at = (phase.start_ns - phases[0].start_ns) / NSEC_PER_SEC
            print(f"  phase {phase.name} began at {at:.3f} s", flush=True)
        printed = len(phases)
        if not target.pattern.repeat and printed == once and phases[-1].end_ns is not None:
            return
        left = _POLL_NS if until is None else min(_POLL_NS, until - clock.now_ns())
        clock.run_for(max(0, left))


def outcome(target: EngineTarget) -> Iterator[str]:
    """What was done, by phase and region; of an engine that is no longer running."""
    status = target.status()
    for index, phase in enumerate(target.pattern.phases[: len(target.phases())]):
        yield f"  phase {phase.name}"
        for number, access in enumerate(phase.accesses):
            count = status.terms[index, number]
            line = f"    {access.region:<16} {count.accesses:>15,} accesses in {count.passes:,} passes"
            yield line + (f", {count.missed:,} passes missed" if count.missed else "")
    total = sum(count.accesses for count in status.terms.values())
    took_ns = _length_ns(target.pattern, status.go_ns, status.stopped_ns)
    yield f"{total:,} accesses in {took_ns / NSEC_PER_SEC:.1f} s, {_per_msec(total, took_ns)} accesses/ms"
    if status.late_max_ns >= NSEC_PER_MSEC:
        yield f"a pass was late by {wording.seconds(status.late_max_ns / NSEC_PER_SEC)}"


def _length_ns(pattern: Pattern, go_ns: int, stopped_ns: int) -> int:
    """How long it was busy: idle after the last phase does not count."""
    took = max(0, stopped_ns - go_ns) if go_ns else 0
    return took if pattern.repeat else min(took, sum(phase.duration_ns for phase in pattern.phases))


def _per_msec(accesses: int, took_ns: int) -> str:
    return f"{accesses * NSEC_PER_MSEC / took_ns:,.0f}" if took_ns else "0"

# SPDX-License-Identifier: GPL-2.0
"""DAMON watches a real program, while an emulator records what the program accesses."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from damon_tests.damon import trace
from damon_tests.damon.client import DamonClient
from damon_tests.damon.params import DamonCtx, DamonTarget, Kdamond
from damon_tests.damon.records import Recording, SchemeReport
from damon_tests.damon.session import Session
from damon_tests.experiment.backend import Backend, Subject
from damon_tests.experiment.observation import Observation
from damon_tests.kernel.guest.topology import Topology
from damon_tests.patterns.spec import Pattern
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_SEC, HarnessError, NotSupported, Truth, page_size
from damon_tests.ports.accesses import GAP_NS, AccessRuns
from damon_tests.ports.cost import Cost
from damon_tests.ports.ranges import Range, joined
from damon_tests.workload.access_truth import AccessTruth, of_frames, of_pages
from damon_tests.workload.program import ProgramTarget
from damon_tests.workload.program_spec import Program

log = logging.getLogger(__name__)

SHARED_PACKAGES = ("memcached", "redis-server", "sqlite3", "tcc", "xz-utils")
"""What the guest of all programs has that need nothing else."""

_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ (\d+) *(.*)")
_USER_SPACE_END = 1 << 47
_LEAD_NS = 10 * NSEC_PER_MSEC
"""The recording of accesses begins so long before DAMON does, and ends so long after it."""


@dataclass(frozen=True)
class Mapping:
    """A mapping of a process: its bytes, whether a file backs it, and what /proc/PID/maps calls it."""

    start: int
    end: int
    file: bool
    name: str


@dataclass(frozen=True, eq=False)
class ProgramRun:
    """What a program accessed and what DAMON reported of it.

    ``truth``: by virtual address, of the program's process. ``physical``: by physical address, of everything
    that any program accessed. ``mappings``: of the process, when DAMON was turned on. ``cost``: of the
    kdamond, in instructions, if it was counted. ``events``: those of the tracepoints that were asked for.
    """

    program: Program
    ctx: DamonCtx
    level: str
    seed: int
    attempt: int
    recording: Recording
    schemes: tuple[SchemeReport, ...]
    runs: AccessRuns
    truth: AccessTruth
    physical: AccessTruth
    mappings: tuple[Mapping, ...]
    ram: tuple[Range, ...]
    sleeps: tuple[Range, ...]
    cost: Cost | None
    events: tuple[trace.TypedEvent, ...] = ()

    def observation(self) -> Observation:
        """Return the run as an observation of an address space; of paddr: of that of physical addresses.

        Its layout is all of the process's mappings, or System RAM.
        """
        ctx, recording = self.ctx, self.recording
        truth: Truth
        if ctx.operations == "paddr":
            truth, vmas = self.physical, self.ram
            ctx = replace(ctx, operations="fvaddr", targets=(DamonTarget(1, tuple(self.ram)),))
            recording = replace(recording, operations="fvaddr")
            layout = {f"RAM {number}": extent for number, extent in enumerate(self.ram)}
        else:
            truth = self.truth
            vmas = tuple((m.start, m.end) for m in self.mappings)
            layout = named(self.mappings)
        return Observation(
            pattern=Pattern(self.program.name, self.program.reason, regions=(), phases=()),
            ctx=ctx,
            level=self.level,
            seed=self.seed,
            attempt=self.attempt,
            truth=truth,
            layout=layout,
            vmas=vmas,
            phases=(),
            recording=recording,
            schemes=self.schemes,
            sleeps=self.sleeps,
        )

    def certain(self) -> Observation:
        """Return the observation for exact invariants: its truth covers only memory that nothing else shows.

        Those are anonymous mappings, or frames that were accessed. The kernel sets accessed bits of file
        pages without any access, when it maps those around a page that was accessed.
        """
        observed = self.observation()
        if self.ctx.operations == "paddr":
            return observed
        anonymous = joined((m.start, m.end) for m in self.mappings if not m.file)
        return replace(observed, truth=self.truth.within(anonymous))


def named(mappings: Sequence[Mapping]) -> dict[str, Range]:
    """Return byte ranges by unique names: "[heap]", "anonymous", "anonymous 2"."""
    ranges: dict[str, Range] = {}
    for mapping in mappings:
        name = mapping.name or "anonymous"
        number = 1
        while (title := name if number == 1 else f"{name} {number}") in ranges:
            number += 1
        ranges[title] = (mapping.start, mapping.end)
    return ranges


def topology(program: Program, memory_mib: int = 1024) -> Topology:
    """Return the guest for a program: Debian's userland with its packages, in an emulator with the plugin.

    Programs of small packages share a guest, which boots only once.
    """
    shared = set(program.packages) <= set(SHARED_PACKAGES)
    packages = SHARED_PACKAGES if shared else program.packages
    return Topology(memory_mib=memory_mib, userland=True, packages=packages, instructions=True)


def run_program(
    backend: Backend,
    program: Program,
    ctx: DamonCtx,
    seed: int,
    *,
    attempt: int = 1,
    watch_ns: int | None = None,
    gap_ns: int = GAP_NS,
    cost: bool = False,
    machine: Topology | None = None,
    extra_events: Sequence[str] = (),
) -> ProgramRun:
    """Start a program in a restored guest; let DAMON watch it, and record its accesses meanwhile.

    ``ctx`` has no targets. ``watch_ns``: None for the program's own time. ``cost``: count what the kdamond
    executes. Raises NotSupported where accesses cannot be recorded, HarnessError when the program fails.
    """
    if backend.simulated:
        raise NotSupported("real programs", remedy="use --kernel debian:newest for this")
    subject = backend.subject(seed, machine or topology(program))
    try:
        # First: where nothing records accesses, no setting of the machine is changed.
        subject.access_probe().prepare()
        target = subject.start_program(program, seed, huge_pages=False)
        try:
            made = _watch(
                subject, target, ctx, watch_ns or program.watch_ns, gap_ns, cost=cost, extra=extra_events
            )
            return replace(made, attempt=attempt)
        finally:
            target.stop()
    finally:
        subject.close()


def _watch(
    subject: Subject,
    target: ProgramTarget,
    ctx: DamonCtx,
    watch_ns: int,
    gap_ns: int,
    *,
    cost: bool,
    extra: Sequence[str],
) -> ProgramRun:
    ram = _ram(subject)
    request = replace(ctx, targets=(_target(ctx, target, ram),))
    client = DamonClient(subject.tree, subject.clock)
    sleeps = subject.watch_sleeps()
    probe = subject.access_probe()
    kdamonds = (Kdamond(request),)
    with Session(client, subject.events, kdamonds, source="events", extra_events=extra) as session:
        with probe.window(gap_ns, thread="kdamond" if cost else None) as window:
            target.reschedule()
            subject.clock.run_for(_LEAD_NS)
            mappings = mappings_of(subject, target.pid)
            session.start()
            kdamond = client.pid(0)
            log.info("DAMON watches %s for %.1f s of the guest", target.program.name, watch_ns / NSEC_PER_SEC)
            session.record(watch_ns)
            session.end_recording()
            schemes = session.scheme_reports(tried=False) if ctx.schemes else ()
            session.stop()
            subject.clock.run_for(_LEAD_NS)
        target.require_alive()
        slept = tuple(sleeps.sleeps(kdamond)) if sleeps is not None and kdamond else ()
        recording = session.recording()
        events = session.events(extra) if extra else []
    runs = window.result
    mine = runs.of_process(target.pid)
    if not len(mine):
        raise HarnessError(f"no access of {target.program.name} (pid {target.pid}) was recorded")
    mapped = [(m.start, m.end) for m in mappings]
    return ProgramRun(
        program=target.program,
        ctx=request,
        level=subject.level,
        seed=target.seed,
        attempt=1,
        recording=recording,
        schemes=schemes,
        runs=runs,
        truth=of_pages(mine, mapped),
        physical=of_frames(runs),
        mappings=mappings,
        ram=ram,
        sleeps=tuple(sorted((sleep[0], sleep[1]) for sleep in slept)),
        cost=window.cost,
        events=tuple(events),
    )


def _target(ctx: DamonCtx, target: ProgramTarget, ram: Sequence[Range]) -> DamonTarget:
    if ctx.operations == "paddr":
        return DamonTarget(regions=tuple(ram))
    return DamonTarget(pid_target=target.pid)


def _ram(subject: Subject) -> tuple[Range, ...]:
    """Return System RAM, whole pages."""
    ranges = [
        (-(-start // page_size()) * page_size(), end // page_size() * page_size())
        for start, end in subject.ram_ranges()
    ]
    return tuple(joined((start, end) for start, end in ranges if start < end))


def mappings_of(subject: Subject, pid: int) -> tuple[Mapping, ...]:
    """Return the mappings of a process, ascending."""
    text = subject.kernel_file(f"/proc/{pid}/maps")
    mappings = []
    for line in text.splitlines():
        match = _MAPPING.match(line)
        if match is None:
            raise HarnessError(f"/proc/{pid}/maps has a line of an unknown form: {line!r}")
        start, end = int(match[1], 16), int(match[2], 16)
        if start < _USER_SPACE_END:
            mappings.append(Mapping(start, end, match[4] != "0", match[5]))
    return tuple(mappings)

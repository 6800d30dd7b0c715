# SPDX-License-Identifier: GPL-2.0
"""The DAMON of a kernel on a Machine, and the host's own DAMON as a backend, under a lease."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from damon_tests.damon.capability import Capabilities, fingerprint, probe
from damon_tests.damon.client import DamonClient
from damon_tests.damon.kernel_config import KernelConfig
from damon_tests.damon.series import Level
from damon_tests.damon.sleeps import SleepWatch
from damon_tests.damon.tracefs import TracefsEvents
from damon_tests.experiment.backend import Subject
from damon_tests.experiment.requirements import Needs, look
from damon_tests.kernel import failing_allocations, slab
from damon_tests.kernel.failing_allocations import FailedWrite
from damon_tests.kernel.guest.topology import Topology
from damon_tests.kernel.host.kernel_log import KMSG, OwnLog
from damon_tests.kernel.images.programs import ENGINE, program
from damon_tests.kernel.images.running_config import running_config
from damon_tests.kernel.images.userland import BUSYBOX
from damon_tests.kernel.machine_tree import MachineTree
from damon_tests.kernel.schedstat import SchedstatProbe
from damon_tests.kernel.splat import parse_splats
from damon_tests.patterns.spec import Pattern
from damon_tests.ports import (
    Clock,
    Events,
    HarnessError,
    Machine,
    NotSupported,
    Process,
    Tree,
)
from damon_tests.ports.accesses import AccessProbe
from damon_tests.ports.cost import CostProbe
from damon_tests.ports.lines import LineFormat
from damon_tests.ports.machine import SpawnRequest
from damon_tests.ports.word import user_space_end
from damon_tests.workload import engine
from damon_tests.workload.memory_info import MemoryInfo, read_memory_info
from damon_tests.workload.pages import PageStates, read_pages
from damon_tests.workload.program import ProgramTarget, without_huge_pages
from damon_tests.workload.program_spec import Program
from damon_tests.workload.target import RunningTarget

_IOMEM_RAM = LineFormat("{start:x}-{last:x} : System RAM")
_MAPS_LINE = LineFormat("{start:x}-{end:x} {rest}")


class MachineSubject:
    """A kernel's DAMON on a Machine. ``log`` returns what the kernel printed; ``release`` ends the subject;
    ``probe`` measures the cost of threads, by default in the scheduler's time; ``accesses`` records what
    programs access."""

    def __init__(
        self,
        machine: Machine,
        level: str,
        *,
        engine_path: str,
        work_dir: str,
        log: Callable[[], str],
        release: Callable[[], None],
        probe: CostProbe | None = None,
        accesses: AccessProbe | None = None,
    ) -> None:
        self.machine = machine
        self.tree: Tree = MachineTree(machine)
        self.events: Events = TracefsEvents(machine)
        self.clock: Clock = machine.clock
        self.level = level
        self._engine_path = engine_path
        self._work_dir = work_dir
        self._log = log
        self._release = release
        self._probe = probe or SchedstatProbe(machine)
        self._accesses = accesses

    def start_target(self, pattern: Pattern, seed: int) -> RunningTarget:
        return engine.start(self.machine, pattern, seed, self._engine_path, self._work_dir)

    def start_program(self, program: Program, seed: int, *, huge_pages: bool = True) -> ProgramTarget:
        if not huge_pages:
            without_huge_pages(self.machine)
        return ProgramTarget(self.machine, program, seed)

    def shell(self, script: str) -> Process:
        try:
            process = self.machine.spawn(SpawnRequest([BUSYBOX, "sh", "-c", script]))
        except FileNotFoundError:
            raise NotSupported(f"no {BUSYBOX} on this machine", remedy="use --kernel debian:newest") from None
        process.close_stdin()
        return process

    def failing_write(self, path: str, value: str, number: int, pid: int = 0) -> FailedWrite:
        failing_allocations.enable(self.machine)
        return failing_allocations.write(self.machine, path, value, number, pid)

    def vmas(self, target: RunningTarget) -> Sequence[tuple[int, int]]:
        maps = self.machine.read_file(f"/proc/{target.pid}/maps").decode()
        # Pages of the kernel are listed, too; DAMON does not see them either.
        ranges = [(line["start"], line["end"]) for line in _MAPS_LINE.each(maps)]
        return [(start, end) for start, end in ranges if start < user_space_end()]

    def ram_ranges(self) -> Sequence[tuple[int, int]]:
        text = self.machine.read_file("/proc/iomem").decode()
        ranges = [(line["start"], line["last"] + 1) for line in _IOMEM_RAM.each(text)]
        if not any(end > 1 for _, end in ranges):
            raise HarnessError("/proc/iomem shows no addresses: reading physical ranges needs CAP_SYS_ADMIN")
        return ranges

    def pages(self, target: RunningTarget, start: int, end: int) -> PageStates:
        return read_pages(self.machine, target.pid, start, end)

    def memory_info(self) -> MemoryInfo:
        return read_memory_info(self.machine)

    def kernel_objects(self) -> Mapping[str, int]:
        return slab.objects(self.machine)

    def kernel_file(self, path: str) -> str:
        return self.machine.read_file(path).decode("utf-8", "replace")

    @contextmanager
    def hold_open(self, path: str) -> Iterator[None]:
        stream = self.machine.follow(path)
        try:
            yield
        finally:
            stream.close()

    def watch_sleeps(self) -> SleepWatch | None:
        try:
            return SleepWatch(self.machine)
        except NotSupported:
            return None

    def cost_probe(self) -> CostProbe:
        return self._probe

    def access_probe(self) -> AccessProbe:
        if self._accesses is None:
            raise NotSupported(
                "the accesses of real programs: only an emulator sees all of them",
                remedy="use an emulated x86-64 guest, such as --kernel debian:newest",
            )
        return self._accesses

    def limit_trace_buffer(self, kib: int) -> None:
        self.events = TracefsEvents(self.machine, buffer_kb=(kib,))

    def kernel_log(self) -> str:
        return self._log()

    def splats(self) -> Sequence[str]:
        return [f"{s.kind}: {s.title}" for s in parse_splats(self._log())]

    def close(self) -> None:
        self._release()


class HostBackend:
    """``--kernel host``: the DAMON of this machine, under a lease, only while nobody else uses it."""

    name = "host"
    simulated = False
    shows_all_accesses = False

    def __init__(
        self, machine: Machine, work_dir: Path, level: str | None = None, *, kmsg: str = KMSG
    ) -> None:
        self._machine = machine
        self._work_dir = work_dir
        self._kmsg = kmsg
        self._level = level
        self._capabilities: Capabilities | None = None

    @property
    def level(self) -> str:
        if self._level is None:
            self._level = fingerprint(self.capabilities())
        return Level(self._level, platform.release())

    def subject(self, seed: int, topology: Topology | None = None) -> Subject:
        return self._subject(self.level)

    def _subject(self, level: str) -> MachineSubject:
        log = OwnLog(self._kmsg)
        return MachineSubject(
            self._machine,
            level,
            engine_path=str(program(ENGINE)),
            work_dir=str(self._work_dir),
            log=log.text,
            release=log.close,
        )

    def capabilities(self) -> Capabilities:
        if self._capabilities is None:
            subject = self._subject("")
            try:
                self._capabilities = probe(DamonClient(subject.tree, subject.clock), subject.events)
            finally:
                subject.close()
        return self._capabilities

    def kernel_config(self) -> KernelConfig:
        return self._config

    @cached_property
    def _config(self) -> KernelConfig:
        return running_config(self._machine, platform.release())

    def machine_has(self) -> Needs:
        return look(self._machine)

    def provenance(self) -> Mapping[str, object]:
        return {
            "kind": "host",
            "release": platform.release(),
            "config": self.kernel_config().digest,
            "config_options": self.kernel_config().relevant,
            "machine": platform.machine(),
        }

    def close(self) -> None:
        """Do nothing: the code that acquired the lease releases it."""

# SPDX-License-Identifier: GPL-2.0
"""A real program as a target on a machine with Debian's userland."""

from __future__ import annotations

import logging
import signal
from collections.abc import Mapping, Sequence

from damon_tests.kernel.images.userland import MOUNTED_AT, chroot
from damon_tests.patterns.spec import Pattern
from damon_tests.ports import (
    NSEC_PER_MSEC,
    NSEC_PER_SEC,
    Entry,
    FileOp,
    HarnessError,
    Machine,
    Process,
    SpawnRequest,
    Truth,
)
from damon_tests.workload.program_spec import Command, Program
from damon_tests.workload.target import PhaseTime

log = logging.getLogger(__name__)

_READY_NS = 60 * NSEC_PER_SEC
_COMMAND_NS = 300 * NSEC_PER_SEC
_ENVIRONMENT = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/root", "LC_ALL": "C"}
_THP = "/sys/kernel/mm/transparent_hugepage/enabled"


class ProgramTarget:
    """``RunningTarget`` of a real program; it runs when this object exists, as soon as it is warm.

    ``layout`` is empty until the caller fills it: a program's memory has no names. What it accesses is not
    known here: an emulator records it (``ports.accesses``).
    """

    def __init__(self, machine: Machine, program: Program, seed: int) -> None:
        self.program = program
        self.pattern = Pattern(program.name, program.reason, regions=(), phases=())
        self.seed = seed
        self.layout: Mapping[str, tuple[int, int]] = {}
        self.memcg = ""
        self._machine = machine
        self._load: Process | None = None
        self._go_ns: int | None = None
        self._stopped = False
        for file in program.files:
            path = f"{MOUNTED_AT}/tmp/{file.name}"
            machine.write_file(path, file.read_bytes(), create=True, mode=0o755)
        for command in program.prepare:
            self._run(command)
        log.info("starting %s", program.name)
        self._process = self._spawn(program.start)
        self.pid = self._process.pid
        try:
            self._become_warm()
        except BaseException:
            self.stop()
            raise

    def go(self) -> None:
        """Note the time: the program runs already."""
        self._go_ns = self._machine.clock.now_ns()

    def phases(self) -> Sequence[PhaseTime]:
        return () if self._go_ns is None else (PhaseTime("watched", self._go_ns, None),)

    def accesses(self) -> Mapping[tuple[int, str], int]:
        return {}

    def truth(self) -> Truth:
        raise HarnessError("a program does not report what it accesses: take it from an AccessProbe")

    def disturbances(self, slack_ns: int) -> Sequence[tuple[int, int]]:
        return ()

    def physical(self) -> Mapping[str, Sequence[tuple[int, int]]]:
        return {}

    def reschedule(self) -> None:
        """Stop and continue the process, so that each of its threads is scheduled in once more."""
        self._process.kill(signal.SIGSTOP)
        self._machine.clock.run_for(NSEC_PER_MSEC)
        self._process.kill(signal.SIGCONT)

    def require_alive(self) -> None:
        """Raise HarnessError, with its output, if the program has ended."""
        status = self._process.poll()
        if status is not None:
            raise HarnessError(
                f"{self.program.name} has ended ({status}) before it was watched to the end: give it more"
                f" work, or begin sooner (warm) and watch for a shorter time; {_output(self._process)}"
            )

    def stop(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        for process in (self._load, self._process):
            if process is not None:
                process.kill(signal.SIGKILL)

    def _become_warm(self) -> None:
        clock, ready = self._machine.clock, self.program.ready
        if ready:
            deadline = clock.now_ns() + _READY_NS
            if not clock.wait_until(lambda: self._exists(ready), deadline):
                raise HarnessError(f"{self.program.name} did not make {ready}: {_output(self._process)}")
        for command in self.program.fill:
            self._run(command)
        if self.program.load:
            self._load = self._spawn(self.program.load)
        clock.run_for(self.program.warm_ns)
        self.require_alive()
        if self._load is not None and (status := self._load.poll()) is not None:
            raise HarnessError(f"the load of {self.program.name} ended ({status}): {_output(self._load)}")

    def _exists(self, path: str) -> bool:
        self.require_alive()
        directory, _, name = f"{MOUNTED_AT}{path}".rpartition("/")
        (listed,) = self._machine.batch([FileOp("list", directory)])
        return not isinstance(listed, OSError) and any(
            isinstance(entry, Entry) and entry.path == name for entry in listed
        )

    def _run(self, command: Command) -> None:
        process = self._spawn(command)
        status = process.wait(_COMMAND_NS)
        if not status.ok:
            words = " ".join(command)
            raise HarnessError(f"{self.program.name}: {words} failed ({status}): {_output(process)}")

    def _spawn(self, command: Command) -> Process:
        words = [word.replace("{seed}", str(self.seed)) for word in command]
        process = self._machine.spawn(SpawnRequest(chroot(words), _ENVIRONMENT))
        process.close_stdin()
        return process


def without_huge_pages(machine: Machine) -> None:
    """Turn transparent huge pages off, if there are any: an accessed bit then stands for 4 KiB."""
    try:
        machine.write_file(_THP, b"never\n")
    except FileNotFoundError:
        return


def _output(process: Process) -> str:
    text = (process.read_stderr() + process.read_stdout()).decode("utf-8", "replace").strip()
    return f"it printed: {text[-500:]}" if text else "it printed nothing"

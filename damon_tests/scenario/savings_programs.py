# SPDX-License-Identifier: GPL-2.0
"""Real programs of Debian (``workloads/programs``) as workloads under a scheme.

A unit of their work is a byte that they read: of requests (redis) or of their input (xz).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from damon_tests.experiment.backend import Subject
from damon_tests.experiment.program_run import topology as topology_of
from damon_tests.kernel.guest.topology import Topology
from damon_tests.ports import NSEC_PER_SEC, HarnessError
from damon_tests.ports.ranges import Range
from damon_tests.workload.program import ProgramTarget
from damon_tests.workload.program_spec import Program

_MORE_MEMORY_MIB = 256
"""For the userland's page cache, beside what the scheme's machine has."""


@dataclass(frozen=True)
class ProgramWorkload:
    """A program, started and loaded as its file says."""

    program: Program

    @property
    def name(self) -> str:
        return self.program.name

    def machine(self, topology: Topology) -> Topology:
        """Return the topology with the program's packages, and memory for them."""
        packages = topology_of(self.program).packages
        memory_mib = topology.memory_mib + _MORE_MEMORY_MIB
        return replace(topology, userland=True, packages=packages, memory_mib=memory_mib)

    def start(self, subject: Subject, seed: int) -> ProgramJob:
        """Start the program and its load. Raises NotSupported where nothing is a process."""
        return ProgramJob(subject, subject.start_program(self.program, seed))


class ProgramJob:
    """A running program, see ``scenario.savings.Job``."""

    ranges: Sequence[Range] = ()

    def __init__(self, subject: Subject, target: ProgramTarget) -> None:
        self.pid = target.pid
        self._subject = subject
        self._target = target

    def begin(self) -> None:
        """Do nothing: a program works from its start on."""

    def work(self, seconds: float) -> float:
        """Let time pass, and return the bytes that the program read in it.

        Raises HarnessError when it has ended, or reads nothing: what it does then cannot be counted.
        """
        before = self._bytes_read()
        self._subject.clock.run_for(int(seconds * NSEC_PER_SEC))
        self._target.require_alive()
        if not (read := self._bytes_read() - before):
            raise HarnessError(
                f"{self._target.program.name} read nothing in {seconds:g} s: its work is unknown"
            )
        return float(read)

    def shares(self, since_ns: int) -> None:
        """Return None: nobody knows which pages a program touched."""
        return

    def stop(self) -> None:
        self._target.stop()

    def _bytes_read(self) -> int:
        lines = self._subject.kernel_file(f"/proc/{self.pid}/io").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("rchar:"))

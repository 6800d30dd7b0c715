# SPDX-License-Identifier: GPL-2.0
"""Real programs of Debian as workloads under a scheme: they fill memory, and then use a part of it again and
again. A unit of work is one request to Redis, or one query to SQLite."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from damon_tests.experiment.backend import Subject
from damon_tests.kernel.guest.topology import Topology
from damon_tests.kernel.images.userland import MOUNTED_AT, chroot
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_SEC, Clock, HarnessError, Process, SpawnRequest
from damon_tests.ports.ranges import Range
from damon_tests.scenario.savings import Job
from damon_tests.workload.line_protocol import Dialogue

_STEP_NS = 120 * NSEC_PER_SEC
"""The longest time of the guest that a step of a program may take."""
_READY_NS = 60 * NSEC_PER_SEC
_SIGKILL = 9
_MORE_MEMORY_MIB = 256
"""For the programs' packages and page cache, beside what the scheme's machine has."""


@dataclass(frozen=True)
class ProgramWorkload:
    """A program of Debian. ``launch`` starts it in a guest and fills its memory."""

    name: str
    packages: tuple[str, ...]
    launch: Callable[[Subject], Job]

    def machine(self, topology: Topology) -> Topology:
        """Return the topology with the program's packages, and memory for them."""
        memory_mib = topology.memory_mib + _MORE_MEMORY_MIB
        return replace(topology, userland=True, packages=self.packages, memory_mib=memory_mib)

    def start(self, subject: Subject, seed: int) -> Job:
        """Start the program. Its requests follow its own random numbers, not ``seed``."""
        return self.launch(subject)


class _ProgramJob:
    """A running program, see ``scenario.savings.Job``; ``step`` does some work and returns how much."""

    def __init__(self, process: Process, clock: Clock, step: Callable[[], float]) -> None:
        self.pid = process.pid
        self.ranges: Sequence[Range] = ()
        self._process = process
        self._clock = clock
        self._step = step

    def begin(self) -> None:
        """Do nothing: the program works when it is asked to."""

    def work(self, seconds: float) -> float:
        """Work in whole steps, at least one, for about ``seconds``; return how much was done."""
        deadline = self._clock.now_ns() + int(seconds * NSEC_PER_SEC)
        done = self._step()
        while self._clock.now_ns() < deadline:
            done += self._step()
        return done

    def shares(self, since_ns: int) -> None:
        """Return None: nobody knows which pages a program touched."""
        return

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.kill(_SIGKILL)
            self._process.wait(_READY_NS)


# --- Redis ---------------------------------------------------------------------------------------

_SOCKET = "/tmp/redis.sock"
_VALUES, _HOT_VALUES, _VALUE_BYTES = 40_000, 2_000, 1_024
_REQUESTS = 2_000


def _redis(subject: Subject) -> Job:
    """Start a server without persistence, store values, and ask again and again for the first ones."""
    server = subject.spawn(
        SpawnRequest(
            chroot(
                [
                    *("/usr/bin/redis-server", "--save", "", "--port", "0", "--unixsocket", _SOCKET),
                    *("--dir", "/tmp", "--daemonize", "no"),
                ]
            )
        )
    )
    job = _ProgramJob(server, subject.clock, lambda: _ask(subject, "get", _HOT_VALUES, _REQUESTS))
    try:
        _wait_for_redis(subject, server)
        _ask(subject, "set", _VALUES, 2 * _VALUES)
    except BaseException:
        job.stop()
        raise
    return job


def _wait_for_redis(subject: Subject, server: Process) -> None:
    def answers() -> bool:
        ping = ["/usr/bin/redis-cli", "-s", _SOCKET, "ping"]
        return server.poll() is not None or _output(subject, ping, check=False).startswith("PONG")

    deadline = subject.clock.now_ns() + _READY_NS
    if not subject.clock.wait_until(answers, deadline, 50 * NSEC_PER_MSEC) or server.poll() is not None:
        raise HarnessError(f"redis-server does not answer: {server.read_stdout().decode()[-500:]}")


def _ask(subject: Subject, request: str, values: int, count: int) -> float:
    """Send requests for random ones of the first ``values`` values, and return their number."""
    command = ["/usr/bin/redis-benchmark", "-s", _SOCKET, "-t", request, "-q", "-P", "16", "-c", "4"]
    _output(subject, [*command, "-r", str(values), "-n", str(count), "-d", str(_VALUE_BYTES)])
    return float(count)


# --- SQLite --------------------------------------------------------------------------------------

_ROWS, _HOT_ROWS, _QUERIES = 40_000, 2_000, 20


def _sqlite(subject: Subject) -> Job:
    """Keep a table in memory, and sum up its first rows again and again."""
    process = subject.spawn(SpawnRequest(chroot(["/usr/bin/sqlite3", "-batch", ":memory:"])))
    dialogue = Dialogue(process, subject.clock)
    query = f"SELECT sum(length(value)) FROM data WHERE id <= {_HOT_ROWS};\n"

    def step() -> float:
        _execute(dialogue, query * _QUERIES)
        return float(_QUERIES)

    job = _ProgramJob(process, subject.clock, step)
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {_ROWS})"
    try:
        _execute(
            dialogue,
            "CREATE TABLE data(id INTEGER PRIMARY KEY, value BLOB);\n"
            f"INSERT INTO data {numbers} SELECT i, randomblob({_VALUE_BYTES}) FROM n;\n",
        )
    except BaseException:
        job.stop()
        raise
    return job


def _execute(dialogue: Dialogue, statements: str) -> None:
    """Let the shell execute statements, and wait until it has."""
    dialogue.say(f"{statements}.print done\n".encode())
    dialogue.lines_until("done", _STEP_NS)
    if complaint := dialogue.complaint():
        raise HarnessError(f"sqlite3 complains: {complaint}")


# --- all -----------------------------------------------------------------------------------------

PROGRAMS: Mapping[str, ProgramWorkload] = {
    "redis": ProgramWorkload("redis", ("redis-server", "redis-tools"), _redis),
    "sqlite3": ProgramWorkload("sqlite3", ("sqlite3",), _sqlite),
}


def _output(subject: Subject, argv: Sequence[str], *, check: bool = True) -> str:
    """Run a command of the userland to its end, and return what it printed.

    Raises HarnessError when it fails, if ``check``.
    """
    process = subject.spawn(SpawnRequest(chroot(argv)))
    status = process.wait(_STEP_NS)
    text = process.read_stdout().decode("utf-8", "replace")
    if check and not status.ok:
        complaint = process.read_stderr().decode("utf-8", "replace") or text
        raise HarnessError(f"{argv[0]} in the guest's {MOUNTED_AT} failed ({status}): {complaint[-500:]}")
    return text

# SPDX-License-Identifier: GPL-2.0
"""Targets that are real processes: the C engine performs a pattern on a machine."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

import numpy as np

from damon_tests.patterns.spec import Pattern
from damon_tests.ports import (
    NSEC_PER_SEC,
    ExitStatus,
    FileOp,
    HarnessError,
    Machine,
    NotSupported,
    SpawnRequest,
    page_size,
)
from damon_tests.workload.engine_files import Status, parse_passes, parse_phases, parse_slices, parse_status
from damon_tests.workload.engine_program import Files, write_program
from damon_tests.workload.line_protocol import Dialogue
from damon_tests.workload.pass_log_truth import RecordedTruth
from damon_tests.workload.slice_truth import SliceTruth
from damon_tests.workload.target import PhaseTime

# Populating 128 MiB takes 0.6 s under emulation; the rest is margin for a busy machine.
READY_TIMEOUT_NS = 60 * NSEC_PER_SEC
ANSWER_TIMEOUT_NS = 20 * NSEC_PER_SEC
_CANNOT = 3  # the engine's exit code for "this machine cannot do it"
_CHUNK = 1 << 20


def start(
    machine: Machine,
    pattern: Pattern,
    seed: int,
    engine_path: str,
    work_dir: str,
    *,
    slices_ns: int | None = None,
    pass_log: bool = True,
) -> EngineTarget:
    """Start the engine (``engine_path`` on that machine) and wait until it is ready.

    It publishes in a new directory below ``work_dir``, preferably a tmpfs, which ``stop`` removes.
    ``slices_ns``: also record touched-page slices of this length. ``pass_log`` False: write no log,
    so there is no ``truth`` (to measure the cost of the log).

    Raises:
        NotSupported: the machine cannot perform it (no memory, no huge pages); names what is missing.
        HarnessError: the engine did not start, died, or did not answer.
    """
    files = Files(f"{work_dir.rstrip('/')}/damon-tests-engine-{uuid.uuid4().hex[:12]}")
    program = write_program(pattern, seed, files, slices_ns, pass_log=pass_log)
    _make_directory(machine, work_dir, files)
    try:
        process = machine.spawn(SpawnRequest([engine_path]))
    except OSError as error:
        machine.batch([FileOp("rmdir", files.directory)])
        raise HarnessError(
            f"the workload engine {engine_path} cannot be started on {machine.name}: {error}"
        ) from None
    target = EngineTarget(machine, pattern, seed, Dialogue(process, machine.clock), files)
    try:
        target.load(program)
    except BaseException:
        target.stop()
        raise
    return target


def _make_directory(machine: Machine, work_dir: str, files: Files) -> None:
    _, made = machine.batch(
        [FileOp("mkdir", work_dir, mode=0o755), FileOp("mkdir", files.directory, mode=0o755)]
    )
    if isinstance(made, OSError):
        raise HarnessError(f"the workload engine's directory cannot be made on {machine.name}: {made}")


class EngineTarget:
    """``RunningTarget`` of an engine process. ``start`` makes it.

    ``visibility``: how the engine makes accesses visible to DAMON, which does not flush TLBs; ``vaddr``:
    the ranges that DAMON's three-regions rule should find in the process. ``pids`` of all processes, by
    number. ``memcg``: path of its memory control group below the mount, "" if it has no group of its own.
    """

    def __init__(
        self, machine: Machine, pattern: Pattern, seed: int, dialogue: Dialogue, files: Files
    ) -> None:
        self.pid = dialogue.pid
        self.pattern = pattern
        self.seed = seed
        self.layout: Mapping[str, tuple[int, int]] = {}
        self.visibility = ""
        self.pids: Mapping[int, int] = {0: self.pid}
        self.memcg = ""
        self.vaddr: tuple[tuple[int, int], ...] = ()
        self._machine = machine
        self._dialogue = dialogue
        self._files = files
        self._go_ns: int | None = None
        self._ended = False
        self._failure: HarnessError | None = None
        # The published files, which stop() reads before it removes them.
        self._kept: dict[str, bytes] = {}

    def load(self, program: bytes) -> None:
        """Give the engine its program and wait until it is ready."""
        self._dialogue.say(program)
        try:
            lines = self._dialogue.lines_until("ready", READY_TIMEOUT_NS)
        except HarnessError as error:
            status = self._dialogue.poll()
            if status is not None and status.code == _CANNOT:
                raise NotSupported(f"{self._machine.name}: {self._dialogue.complaint()}") from None
            raise HarnessError(f"pattern {self.pattern.name}: {error}") from None
        layout = {}
        vaddr = []
        pids = {0: self.pid}
        for words in lines:
            if words[0] == "region":
                layout[words[1]] = (int(words[2], 16), int(words[3], 16))
            elif words[0] == "vaddr":
                vaddr.append((int(words[1], 16), int(words[2], 16)))
            elif words[0] == "visibility":
                self.visibility = " ".join(words[1:])
            elif words[0] == "process":
                pids[int(words[1])] = int(words[2])
            elif words[0] == "memcg":
                self.memcg = " ".join(words[1:])
        self.layout = layout
        self.pids = pids
        self.vaddr = tuple(vaddr)

    def go(self) -> None:
        """Start the first phase. Raises HarnessError the second time, after ``stop``, and when it is dead."""
        if self._go_ns is not None or self._ended:
            raise HarnessError(f"pattern {self.pattern.name}: go was called twice, or after stop")
        self._go_ns = self._ask("go", "went")

    def _ask(self, command: str, answer: str) -> int:
        self._dialogue.say(f"{command}\n".encode())
        return int(self._dialogue.lines_until(answer, ANSWER_TIMEOUT_NS)[-1][1])

    def status(self) -> Status:
        """Return all counters, up to date; after ``stop`` their last values."""
        if not self._ended:
            self._ask("sync", "synced")
        data = self._read("status")
        if not data:
            raise self._failure or HarnessError("the engine published no status")
        return parse_status(data)

    def _read(self, name: str) -> bytes:
        """Return a published file; after ``stop``, the kept copy."""
        if self._ended:
            if name not in self._kept:
                raise self._failure or HarnessError(f"the engine's file {name!r} was not kept")
            return self._kept[name]
        return self._fetch(name)

    def _fetch(self, name: str) -> bytes:
        data = b""
        while True:
            chunk = self._machine.read_file(f"{self._files.directory}/{name}", len(data), _CHUNK)
            data += chunk
            if len(chunk) < _CHUNK:
                return data

    def phases(self) -> Sequence[PhaseTime]:
        status = self.status()
        starts = parse_phases(self._read("phases"))
        times = []
        for number, begun in enumerate(starts):
            if not self.pattern.repeat and number == len(self.pattern.phases):
                break  # the end of the last phase, not a start
            name = self.pattern.phases[number % len(self.pattern.phases)].name
            end: int | None = status.stopped_ns or None
            if number + 1 < len(starts):
                end = starts[number + 1]
            times.append(PhaseTime(name, begun, end))
        return tuple(times)

    def accesses(self) -> Mapping[tuple[int, str], int]:
        counts: dict[tuple[int, str], int] = {}
        terms = self.status().terms
        for index, phase in enumerate(self.pattern.phases):
            for number, access in enumerate(phase.accesses):
                key = (index, access.region)
                counts[key] = counts.get(key, 0) + terms[index, number].accesses
        return counts

    def truth(self) -> RecordedTruth:
        """Return the accesses of the target itself (process 0). Raises HarnessError if the engine died."""
        return self.truth_of(0)

    def truth_of(self, process: int | None) -> RecordedTruth:
        """Return the accesses of a process (None: of all) from the pass log; its span ends with the log."""
        status = self._finished_or_running()
        end = status.first_dropped_ns or status.stopped_ns or status.now_ns
        records = parse_passes(self._read("passes"))
        if len(records) == 0 and any(count.passes for count in status.terms.values()):
            raise NotSupported("no passes were logged", remedy="start the engine with pass_log=True")
        if not self._ended:  # a pass may have been logged after the status was read
            records = records[records["start_ns"] + records["length_ns"] <= end]
        return RecordedTruth(self.pattern, self.layout, self.seed, records, (status.go_ns, end), process)

    def disturbances(self, slack_ns: int) -> Sequence[tuple[int, int]]:
        return self.truth().disturbances(slack_ns)

    def slices(self) -> SliceTruth:
        """Return the accesses of the target itself from the touched-page slices. Raises NotSupported unless
        slices were requested."""
        return self.slices_of(0)

    def slices_of(self, process: int | None) -> SliceTruth:
        """Return the accesses of a process (None: of all); its span ends with the first worker to end."""
        status = self._finished_or_running()
        if not status.slice_bytes and not status.slices_logged:
            raise NotSupported("no slices were recorded", remedy="start the engine with slices_ns")
        slices = parse_slices(self._read("slices"), status)
        mine = [
            part for part, worker in zip(slices, status.workers, strict=True) if process in (None, worker[0])
        ]
        return SliceTruth(tuple(self.layout.values()), status.windows, mine)

    def _finished_or_running(self) -> Status:
        if self._failure is not None:
            raise self._failure
        status = self.status()
        if not status.go_ns:
            raise HarnessError(f"pattern {self.pattern.name}: there is no truth before go")
        return status

    def physical(self) -> Mapping[str, Sequence[tuple[int, int]]]:
        """Return the physical byte ranges that hold each region now, ascending, from /proc/PID/pagemap.

        Raises NotSupported where the kernel hides frame numbers (CAP_SYS_ADMIN is needed).
        """
        return {name: self._frames(start, end) for name, (start, end) in self.layout.items()}

    def _frames(self, start: int, end: int) -> tuple[tuple[int, int], ...]:
        path = f"/proc/{self.pid}/pagemap"
        offset, size = start // page_size() * 8, (end - start) // page_size() * 8
        data = b""
        while len(data) < size:
            try:
                chunk = self._machine.read_file(path, offset + len(data), min(_CHUNK, size - len(data)))
            except PermissionError as error:
                raise NotSupported(f"{self._machine.name}: {error}", remedy="run as root") from None
            if not chunk:
                raise HarnessError(f"{path} ended at {offset + len(data)}: has the process ended?")
            data += chunk
        return _merge_frames(np.frombuffer(data, dtype="<u8"), self._machine.name)

    def stop(self) -> None:
        """End the process, keep what it published, and remove its files. Failures (the process died, the
        machine is lost) are raised later, by ``truth``."""
        if self._ended:
            return
        try:
            self._stop()
        except HarnessError as error:
            self._failure = error
        finally:
            self._ended = True

    def _stop(self) -> None:
        status = self._dialogue.poll()
        if status is None:
            status = self._dialogue.end(ANSWER_TIMEOUT_NS)
        if not status.ok:
            self._failure = HarnessError(_death(self.pattern, status, self._dialogue.complaint()))
        for name in ("status", "phases", "passes", "slices"):
            try:
                self._kept[name] = self._fetch(name)
            except OSError:
                self._kept[name] = b""  # never created: no slices, or dead before
        names = (*self._kept, "status.new")  # left over if the engine died while it wrote its status
        ops = [FileOp("unlink", f"{self._files.directory}/{name}") for name in names]
        self._machine.batch([*ops, FileOp("rmdir", self._files.directory)])


def _death(pattern: Pattern, status: ExitStatus, complaint: str) -> str:
    return f"the workload engine of pattern {pattern.name} ended ({status}): {complaint or 'it said nothing'}"


def _merge_frames(
    entries: np.ndarray[tuple[int], np.dtype[np.uint64]], machine: str
) -> tuple[tuple[int, int], ...]:
    """Return the physical ranges of pagemap entries: bit 63 is "present", bits 0-54 the frame."""
    present = entries[entries >> np.uint64(63) == 1]
    frames = np.sort((present & np.uint64((1 << 55) - 1)).astype(np.int64))
    if len(frames) == 0:
        return ()
    if not frames.any():
        raise NotSupported(f"{machine}: the kernel hides physical addresses", remedy="run as root")
    frames = np.unique(frames)
    breaks = np.flatnonzero(np.diff(frames) != 1)
    starts = frames[np.concatenate(([0], breaks + 1))]
    ends = frames[np.concatenate((breaks, [len(frames) - 1]))] + 1
    return tuple((int(a) * page_size(), int(b) * page_size()) for a, b in zip(starts, ends, strict=True))

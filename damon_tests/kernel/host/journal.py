# SPDX-License-Identifier: GPL-2.0
"""The journal: a run writes to disk what it is about to change on a machine, before it changes it.

``kernel.host.restore`` describes the format and undoes journals; ``kernel.host.journaled`` adds entries for
writes through a Tree or a Machine. Code that makes other changes adds their entries itself::

    journal.add("mount", "/mnt/x")      # then mount(2); undone by umount(2)
    journal.add("swapon", "/dev/zram0")  # then swapon(2); undone by swapoff(2)

A journal in memory (``Journal(None, files=…)``) is for machines that are discarded after the run, and
for a DAMON that is not the kernel's: it undoes changes at the end of a lease, but has no guard.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from damon_tests.kernel.host.guard import END, READY
from damon_tests.kernel.host.owner import Owner, current_owner
from damon_tests.kernel.host.restore import done_line, header_line
from damon_tests.kernel.host.undo import DEADLINE_S, Entry, Files, LocalFiles, Outcome, undo
from damon_tests.ports import HarnessError

_PACKAGE_PARENT = Path(__file__).resolve().parents[3]
_GUARD_READY_S = 60


def runtime_directory() -> Path:
    """Return the directory that this user's runs on this machine share, writable by no other user.

    It is on a file system that does not survive a reboot, as most changes do not: /run for root, else the
    user's runtime directory, or a private directory in the temporary directory.
    """
    if os.geteuid() == 0 and os.access("/run", os.W_OK):
        return Path("/run/damon-tests")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.geteuid() != 0:
        return Path(runtime) / "damon-tests"
    return Path(tempfile.gettempdir()) / f"damon-tests-{os.geteuid()}"


def make_private(directory: Path) -> None:
    """Make a directory that only this user can write to. Raises OSError, and HarnessError if others can."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.stat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise HarnessError(
            f"{directory} must belong to you and be writable by nobody else, because its files decide what"
            f" is written to this machine: remove it, or chown it to uid {os.geteuid()} and chmod 700"
        )


class Journal:
    """The journal of this process. The first entry creates the file and starts the guard.

    ``directory`` None: in memory only. ``root``: the absolute paths of entries are below it (tests).
    ``files``: what this run's own undo reads and writes; the files below ``root`` by default.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None,
        *,
        root: str | os.PathLike[str] = "/",
        files: Files | None = None,
        guard: bool = True,
    ) -> None:
        self.directory = None if directory is None else Path(directory)
        self.files: Files = files or LocalFiles(os.fspath(root))
        self.path: Path | None = None
        self._root = os.fspath(root)
        self._with_guard = guard
        self._guard: Guard | None = None
        self._owner: Owner = current_owner()
        self._file = -1
        self._entries: dict[int, Entry] = {}
        self._next = 1
        self._lock = threading.RLock()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def outstanding(self) -> list[Entry]:
        """Return the entries that are not settled yet, oldest first."""
        with self._lock:
            return list(self._entries.values())

    def mark(self) -> int:
        """Return a position in the journal, for ``restore(since=…)``."""
        return self._next

    def add(self, kind: str, path: str, **data: Any) -> Entry:
        """Announce a change. On return, it is on disk and a guard watches the run.

        Raises HarnessError when the journal cannot be written or the guard does not start: do not make
        the change then.
        """
        with self._lock:
            self._check_process()
            entry = Entry(self._next, kind, path, {"kind": kind, "path": path, **data})
            self._write(json.dumps({"id": entry.id, **entry.data}) + "\n")
            self._watch()
            self._next += 1
            self._entries[entry.id] = entry
            return entry

    def after(self, entry: Entry, **facts: Any) -> None:
        """Add facts that became known about an announced change."""
        with self._lock:
            self._write(json.dumps({"after": entry.id, **facts}) + "\n")
            entry.after.append(facts)

    def settle(self, entry: Entry, detail: str = "") -> None:
        """Close an entry: the change was not made after all, or the run has undone it itself."""
        self._settle([Outcome(entry.id, entry.kind, entry.path, "nothing", detail)])

    def restore(self, since: int = 0, deadline_s: float = DEADLINE_S) -> list[Outcome]:
        """Undo the changes announced since a ``mark``, newest first; return the outcome of each. Never raises
        for a change that cannot be undone: its entry stays for a later try."""
        with self._lock:
            self._check_process()
            outcomes = undo([e for e in self._entries.values() if e.id >= since], self.files, deadline_s)
            self._settle(outcomes)
            return outcomes

    def close(self) -> list[Outcome]:
        """Undo everything and end the guard. If an undo failed, the journal stays on disk for the next
        run's ``recover``. May be called twice; the journal can be used again afterwards."""
        with self._lock:
            outcomes = self.restore()
            if self._guard:
                self._guard.end()
                self._guard = None
            if self._file >= 0:
                os.close(self._file)
                self._file = -1
            if self.path and not self._entries:
                self.path.unlink(missing_ok=True)
            self.path = None
            self._entries.clear()
            return outcomes

    def _settle(self, outcomes: Iterable[Outcome]) -> None:
        with self._lock:
            for outcome in outcomes:
                self._write(done_line(outcome))
                if outcome.result != "failed":
                    self._entries.pop(outcome.entry, None)
            if not self._entries and self._file >= 0:
                # Nothing is left to undo: empty the file, so that it does not grow over thousands of tests.
                os.ftruncate(self._file, self._header_length)

    def _check_process(self) -> None:
        if os.getpid() != self._owner.pid:
            raise HarnessError(
                f"the journal of process {self._owner.pid} was used in its fork {os.getpid()}:"
                " each process that changes a machine needs a Journal of its own"
            )

    def _write(self, line: str) -> None:
        if self.directory is None:
            return
        try:
            if self._file < 0:
                self._open(self.directory)
            os.write(self._file, line.encode("ascii"))
            os.fsync(self._file)
        except OSError as error:
            raise HarnessError(
                f"cannot write the journal in {self.directory}: {error}. Nothing is changed on a machine"
                " without it: make room or choose another directory"
            ) from error

    def _open(self, directory: Path) -> None:
        make_private(directory)
        name = f"{self._owner.pid}-{self._owner.start_time}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        for number in range(1000):
            path = directory / f"{name}-{number}.jsonl"
            try:
                self._file = os.open(path, flags, 0o600)
                break
            except FileExistsError:
                continue  # another Journal of this process
        self.path = path
        header = header_line(self._owner, command_line(), self._root).encode("ascii")
        self._header_length = os.write(self._file, header)

    def _watch(self) -> None:
        if self._with_guard and self.path and not (self._guard and self._guard.alive()):
            self._guard = Guard(self.path)


class Guard:
    """Start and end the process ``kernel.host.guard``. Raises HarnessError when it does not start."""

    def __init__(self, journal: Path) -> None:
        # -S -s -B and an almost empty environment: import only the standard library and this project.
        self._process = subprocess.Popen(
            [sys.executable, "-SsB", "-m", "damon_tests.kernel.host.guard", str(journal)],
            env={"PYTHONPATH": str(_PACKAGE_PARENT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        self.pid = self._process.pid
        assert self._process.stdout is not None
        with self._process.stdout as stdout:
            ready, _, _ = select.select([stdout], [], [], _GUARD_READY_S)
            if not ready or stdout.readline() != READY:
                self._process.kill()
                raise HarnessError(
                    f"the guard process did not start (status {self._process.wait()}), so nothing was"
                    f" changed; try: {sys.executable} -m damon_tests.kernel.host.guard {journal}"
                )

    def alive(self) -> bool:
        return self._process.poll() is None

    def end(self) -> None:
        """End the guard, because nothing is left to undo, and wait for its exit."""
        try:
            self._process.communicate(END, timeout=_GUARD_READY_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def command_line(pid: int | str = "self") -> str:
    """Return the command line of a process on one line, cut at 200 characters; "" if it has ended."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    text = " ".join(raw.replace(b"\0", b" ").decode("utf-8", "replace").split())
    return text if len(text) <= 200 else text[:197] + "..."

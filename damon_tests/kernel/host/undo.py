# SPDX-License-Identifier: GPL-2.0
"""Undo single changes of a machine, as a journal describes them.

Standard library only, because the guard process uses it. One function per kind of change; each first
checks whether the change is still this run's, and leaves alone what somebody else changed since.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from damon_tests.kernel.host.owner import start_time

DEADLINE_S = 60.0
_POLL_S = 0.02

# What the kernel accepts for a boolean (kstrtobool), by how it prints it.
_SPELLINGS = {"Y": ("y", "t", "1", "on"), "N": ("n", "f", "0", "of")}

Result = Literal["restored", "nothing", "left", "failed"]


@dataclass(frozen=True)
class Outcome:
    """The result of undoing a journal entry.

    "restored": undone. "nothing": it already has its old state. "left": somebody else changed it
    since, so it is theirs now. "failed": still to be undone; the next ``recover`` tries again.
    """

    entry: int
    kind: str
    path: str
    result: Result
    detail: str = ""

    def __str__(self) -> str:
        text = f"{self.path}: {self.result}"
        return f"{text} ({self.detail})" if self.detail else text


@dataclass
class Entry:
    """A change. ``data``: the entry's line; ``after``: all later facts, newest last."""

    id: int
    kind: str
    path: str
    data: dict[str, Any]
    after: list[dict[str, Any]] = field(default_factory=list)

    def latest(self, key: str) -> Any:
        """Return the newest fact called ``key``, or None."""
        return next((a[key] for a in reversed(self.after) if key in a), None)


class Files(Protocol):
    """File access for undo, by absolute path. Methods raise OSError on failure."""

    def read(self, path: str) -> str: ...

    def write(self, path: str, value: str) -> None: ...

    def mark(self, path: str) -> int | None:
        """Return a number that identifies this very file or directory: one made anew under the same name
        has another. None if it is absent or cannot be identified."""
        ...

    def rmdir(self, path: str) -> None: ...

    def unlink(self, path: str) -> None: ...


class LocalFiles:
    """Files of this machine, below ``root``."""

    def __init__(self, root: str = "/") -> None:
        self.root = root
        self._prefix = root.rstrip("/")

    def real(self, path: str) -> str:
        return self._prefix + path

    def read(self, path: str) -> str:
        with open(self.real(path), "rb", buffering=0) as file:
            return file.read().decode("utf-8", "surrogateescape")

    def write(self, path: str, value: str) -> None:
        # As a shell's ">" does, but without O_CREAT.
        fd = os.open(self.real(path), os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode("utf-8", "surrogateescape"))
        finally:
            os.close(fd)

    def mark(self, path: str) -> int | None:
        # sysfs gives a directory a new inode number each time it is made, so the number distinguishes
        # the kdamonds/0 of this run from that of the next.
        try:
            return os.lstat(self.real(path)).st_ino
        except OSError:
            return None

    def rmdir(self, path: str) -> None:
        os.rmdir(self.real(path))

    def unlink(self, path: str) -> None:
        os.unlink(self.real(path))


def undo(entries: Iterable[Entry], files: Files, deadline_s: float = DEADLINE_S) -> list[Outcome]:
    """Undo in reverse order. Never raises: an entry that fails gets the outcome "failed", the rest go on.

    ``deadline_s``: how long to wait, in total, for busy files.
    """
    until = time.monotonic() + deadline_s
    return [_undo_one(e, files, until) for e in sorted(entries, key=lambda e: e.id, reverse=True)]


def _undo_one(entry: Entry, files: Files, until: float) -> Outcome:
    try:
        result, detail = _UNDO[entry.kind](entry, files, until)
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, str(error.errno))
        result, detail = "failed", f"{name}: {error.strerror}"
    except Exception as error:  # any other error must not keep the other entries from being undone
        result, detail = "failed", f"{type(error).__name__}: {error}"
    return Outcome(entry.id, entry.kind, entry.path, result, detail)


def patiently(act: Callable[[], Any], until: float) -> Any:
    """Repeat ``act`` while it fails with EBUSY (DAMON try-locks its lock), EAGAIN or EINTR."""
    while True:
        try:
            return act()
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.EAGAIN, errno.EINTR) or time.monotonic() >= until:
                raise
        time.sleep(_POLL_S)


def same_value(current: str, written: str) -> bool:
    """Return whether a file that reads ``current`` may have been written ``written``: ignore blanks around,
    the other words of a choice ("always [never]"), the base of numbers and the spelling of booleans."""
    current, written = current.strip(), written.strip()
    if "[" in current and "]" in current:
        current = current.partition("[")[2].partition("]")[0]
    if current == written:
        return True
    if current in _SPELLINGS:
        return written.lower().startswith(_SPELLINGS[current])
    try:
        return int(current, 0) == int(written, 0)
    except ValueError:
        return False


def _undo_value(entry: Entry, files: Files, until: float) -> tuple[Result, str]:
    old, new = str(entry.data["old"]), str(entry.latest("writing") or entry.data["new"])
    try:
        current = patiently(lambda: files.read(entry.path), until)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.ESRCH, errno.ENOTDIR):
            return "nothing", "it is gone"
        raise
    if current == old:
        return "nothing", ""
    if not _is_ours(entry, current):
        return "left", f"reads {current.strip()!r}, which is not what this run wrote ({new.strip()!r})"
    patiently(lambda: files.write(entry.path, str(entry.data["undo"])), until)
    now = patiently(lambda: files.read(entry.path), until)
    if now != old and not same_value(now, old):
        return "failed", f"reads {now.strip()!r} after {entry.data['undo']!r} was written"
    return "restored", ""


def _is_ours(entry: Entry, current: str) -> bool:
    """Return whether a file that reads ``current`` has a value that this run wrote or was about to write."""
    noted = entry.latest("seen")
    if noted is None:
        return same_value(current, str(entry.data["new"]))
    writing = entry.after[-1].get("writing")  # only a write whose result is not noted yet
    return bool(current == noted or (writing is not None and same_value(current, str(writing))))


@dataclass
class _Kdamonds:
    """What a journal knows about the kdamonds of its run.

    The run made ``count`` directories, with these ``marks``; ``starts`` has the pid and start time of each
    kdamond that was turned on (None: the run died while turning it on). ``pending`` is a value of nr_kdamonds
    that the run was about to write: nothing is known about directories which that write made."""

    count: int | None = None
    marks: dict[str, int | None] = field(default_factory=dict)
    starts: dict[int, dict[str, Any] | None] = field(default_factory=dict)
    pending: str | None = None

    @staticmethod
    def of(entry: Entry) -> _Kdamonds:
        known = _Kdamonds()
        for fact in [entry.data, *entry.after]:
            if "writing" in fact:
                known.pending = str(fact["writing"])
            elif "count" in fact:
                known = _Kdamonds(int(fact["count"]), dict(fact["marks"]))
            elif "refused" in fact:
                known.pending = None
            elif "starting" in fact:
                known.starts[fact["starting"]] = None
            elif "started" in fact:
                known.starts[fact["started"]] = fact
        return known


def _undo_kdamonds(entry: Entry, files: Files, until: float) -> tuple[Result, str]:
    """Turn off the kdamonds that are this run's own, and remove their directories."""
    base = os.path.dirname(entry.path)

    def read(name: str) -> str:
        return str(patiently(lambda: files.read(f"{base}/{name}"), until)).strip()

    count = int(read("nr_kdamonds"))
    if count == 0:
        return "nothing", ""
    known = _Kdamonds.of(entry)
    if count != known.count and not same_value(str(count), known.pending or ""):
        return "left", f"nr_kdamonds reads {count}, which this run did not write"
    for index in range(count):
        why = _foreign_directory(known, files, base, index, read)
        if not why and read(f"{index}/state") == "on":
            why = _foreign_thread(known, files, index, int(read(f"{index}/pid")))
        if why:
            return "left", f"kdamonds/{index} {why}"
    for index in range(count):
        if read(f"{index}/state") == "on":
            _turn_off(files, f"{base}/{index}/state", until)
    patiently(lambda: files.write(entry.path, "0"), until)
    left = read("nr_kdamonds")
    return ("restored", "") if left == "0" else ("failed", f"nr_kdamonds reads {left} after 0 was written")


def _foreign_directory(
    known: _Kdamonds, files: Files, base: str, index: int, read: Callable[[str], str]
) -> str:
    """Return why this kdamond's directory is not (or may not be) the run's own; "" if it is."""
    mark = files.mark(f"{base}/{index}")
    expected = known.marks.get(str(index))
    if expected is not None and mark == expected:
        return ""
    if known.pending is None:
        # In a tree without marks, the thread's pid decides.
        return "was made anew by somebody else" if None not in (expected, mark) else ""
    # The run died between writing nr_kdamonds and noting the new directories, so it staged nothing there.
    if read(f"{index}/contexts/nr_contexts") != "0" or read(f"{index}/state") == "on":
        return "is in use, and this run did not get to use it"
    return ""


def _foreign_thread(known: _Kdamonds, files: Files, index: int, pid: int) -> str:
    """Return why the running thread is not this run's; "" if it is."""
    if index not in known.starts:
        return f"was turned on by somebody else (pid {pid})"
    start = known.starts[index]
    if start is None:
        return ""  # the run died while turning it on, and the directory is its own
    if start["pid"] != pid:
        return f"runs as pid {pid}, this run started pid {start['pid']}"
    began = thread_start(files, pid)
    if None not in (start["start_time"], began) and start["start_time"] != began:
        return f"runs as a later thread with the same pid {pid}"
    return ""


def thread_start(files: Files, pid: int) -> int | None:
    """Return ``start_time`` of a kdamond, read through ``files``."""
    try:
        return start_time(pid, files.read(f"/proc/{pid}/stat"))
    except OSError:
        return None


def _turn_off(files: Files, state: str, until: float) -> None:
    try:
        patiently(lambda: files.write(state, "off"), until)
    except OSError:
        # Up to 7.2, "off" fails with EPERM when the kdamond has ended meanwhile.
        if patiently(lambda: files.read(state), until).strip() == "on":
            raise
    while patiently(lambda: files.read(state), until).strip() == "on":
        if time.monotonic() >= until:
            raise OSError(errno.ETIMEDOUT, "the kdamond is still on after it was turned off", state)
        time.sleep(_POLL_S)


def _gone_or_foreign(entry: Entry, files: Files) -> tuple[Result, str] | None:
    mark = files.mark(entry.path)
    if mark is None:
        return "nothing", "it is gone"
    known = entry.latest("mark")
    if known not in (None, mark):
        return "left", "it was made anew by somebody else"
    return None


def _undo_mkdir(entry: Entry, files: Files, until: float) -> tuple[Result, str]:
    settled = _gone_or_foreign(entry, files)
    if settled:
        return settled
    _empty_cgroup(entry.path, files)
    patiently(lambda: files.rmdir(entry.path), until)
    return "restored", ""


def _empty_cgroup(path: str, files: Files) -> None:
    """Move processes that still run in a cgroup to its parent: a cgroup with processes cannot be removed."""
    try:
        pids = files.read(f"{path}/cgroup.procs").split()
    except OSError:
        return
    for pid in pids:
        try:
            files.write(f"{os.path.dirname(path)}/cgroup.procs", pid)
        except OSError:
            continue  # it has ended; if not, rmdir will fail


def _undo_create(entry: Entry, files: Files, until: float) -> tuple[Result, str]:
    settled = _gone_or_foreign(entry, files)
    if settled:
        return settled
    files.unlink(entry.path)
    return "restored", ""


def _undo_process(entry: Entry, files: Files, until: float) -> tuple[Result, str]:
    pid, started = int(entry.data["pid"]), entry.data["start_time"]
    if start_time(pid) != started:
        return "nothing", "it has ended"
    os.kill(pid, signal.SIGKILL)
    while start_time(pid) == started:
        if time.monotonic() >= until:
            return "failed", f"process {pid} does not die"
        time.sleep(_POLL_S)
    return "restored", "killed"


def _undo_mount(entry: Entry, files: Files, until: float) -> tuple[Result, str]:
    # mountinfo: ID PARENT MAJ:MIN ROOT MOUNTPOINT …, blanks as \040
    target = entry.path.replace(" ", "\\040")
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        mounted = [line.split()[4] for line in file]
    if target not in mounted:
        return "nothing", "it is not mounted"
    patiently(lambda: _libc("umount2", entry.path, 0), until)
    return "restored", ""


def _undo_swapon(entry: Entry, files: Files, until: float) -> tuple[Result, str]:
    with open("/proc/swaps", encoding="utf-8") as file:
        used = [line.split()[0] for line in file]
    if entry.path.replace(" ", "\\040") not in used:
        return "nothing", "it is not in use"
    patiently(lambda: _libc("swapoff", entry.path), until)
    return "restored", ""


def _libc(function: str, path: str, *flags: int) -> None:
    import ctypes  # imported only here: it takes a megabyte that the guard otherwise does not need

    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(os.fsencode(path), *flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)


_UNDO: dict[str, Callable[[Entry, Files, float], tuple[Result, str]]] = {
    "value": _undo_value,
    "kdamonds": _undo_kdamonds,
    "mkdir": _undo_mkdir,
    "create": _undo_create,
    "process": _undo_process,
    "mount": _undo_mount,
    "swapon": _undo_swapon,
}

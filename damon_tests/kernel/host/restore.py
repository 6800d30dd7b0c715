# SPDX-License-Identifier: GPL-2.0
"""Undo what dead runs changed on this machine, from their journals.

Standard library only: the guard process imports this, and must stay small and start fast
(``ports`` would import numpy).

A journal is a file of JSON lines, one file per run. Its first line has the run (``Owner``), its
command line and the root of the file system that paths are below. An entry line (``id``, ``kind``,
``path`` …) is on disk before the change is made; ``after`` lines add later facts (what the file reads
since, which thread was started); ``done`` lines say which entries are settled. If the last line is
incomplete, the run died while writing it: the change that it announces was never made.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from dataclasses import asdict, dataclass
from typing import Any

from damon_tests.kernel.host.owner import Owner, boot_id
from damon_tests.kernel.host.undo import DEADLINE_S, Entry, LocalFiles, Outcome, undo

FORMAT = 1


@dataclass(frozen=True)
class Leftover:
    """The journal of a dead run, and the outcomes of undoing it."""

    journal: str
    owner: Owner
    cmdline: str
    outcomes: tuple[Outcome, ...]


class Journaled:
    """The content of a journal file. ``owner`` is None when the first line is incomplete."""

    def __init__(self, text: str) -> None:
        self.owner: Owner | None = None
        self.cmdline = ""
        self.root = "/"
        self.entries: dict[int, Entry] = {}
        for line in text.split("\n"):
            try:
                self._take(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # incomplete: see the module's docstring

    def _take(self, record: dict[str, Any]) -> None:
        if "owner" in record:
            self.owner = Owner(**record["owner"])
            self.cmdline, self.root = str(record["cmdline"]), str(record["root"])
        elif "after" in record:
            self.entries[record["after"]].after.append(record)
        elif "done" in record:
            if record["result"] != "failed":
                self.entries.pop(record["done"], None)
        else:
            entry = Entry(int(record["id"]), str(record["kind"]), str(record["path"]), record)
            self.entries[entry.id] = entry


def done_line(outcome: Outcome) -> str:
    return json.dumps({"done": outcome.entry, "result": outcome.result, "detail": outcome.detail}) + "\n"


def restore_journal(path: str, deadline_s: float = DEADLINE_S) -> Leftover | None:
    """Undo a dead run's journal, and remove the file when all entries are settled.

    Returns None if the file is gone or not trusted, or if its run lives. Only one process restores at a
    time: another waits and then has nothing left to do. Raises OSError if the file cannot be opened.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with open(fd, "r+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not _trusted(os.fstat(fd)) or not os.fstat(fd).st_nlink:
            return None
        return _restore_open(file, path, deadline_s)


def _restore_open(file: Any, path: str, deadline_s: float) -> Leftover | None:
    text = file.read().decode("utf-8", "replace")
    journal = Journaled(text)
    if journal.owner is None:
        os.unlink(path)  # the run died before it announced any change
        return None
    if journal.owner.is_alive():
        return None
    entries = list(journal.entries.values())
    if journal.owner.boot_id != boot_id():
        entries = [e for e in entries if e.kind == "create"]  # a reboot undid the rest
    outcomes = undo(entries, LocalFiles(journal.root), deadline_s)
    lines = "".join(done_line(o) for o in outcomes)
    if any(o.result == "failed" for o in outcomes):
        file.write((lines if text.endswith("\n") else "\n" + lines).encode())
        os.fsync(file.fileno())
    else:
        os.unlink(path)
    return Leftover(path, journal.owner, journal.cmdline, tuple(outcomes))


def _trusted(status: os.stat_result) -> bool:
    """Return whether only we can have written the journal: root must not obey another user's file."""
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def recover(journal_dir: str | os.PathLike[str], deadline_s: float = DEADLINE_S) -> list[Leftover]:
    """Undo what dead runs left behind, newest run first; do not touch live runs.

    Returns only journals with outcomes. Raises OSError if a journal cannot be opened.
    """
    try:
        with os.scandir(journal_dir) as listing:
            journals = [(e.stat().st_mtime_ns, e.path) for e in listing if e.name.endswith(".jsonl")]
    except FileNotFoundError:
        return []
    restored = (restore_journal(path, deadline_s) for _, path in sorted(journals, reverse=True))
    return [leftover for leftover in restored if leftover is not None and leftover.outcomes]


def header_line(owner: Owner, cmdline: str, root: str) -> str:
    return json.dumps({"format": FORMAT, "owner": asdict(owner), "cmdline": cmdline, "root": root}) + "\n"


def read_owner(path: str) -> Owner | None:
    """Return the owner of a journal, or None if its first line is incomplete. Raises OSError."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return Journaled(file.readline()).owner

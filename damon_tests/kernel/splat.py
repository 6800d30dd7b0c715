# SPDX-License-Identifier: GPL-2.0
"""Find a kernel's bug reports (BUG, WARNING, KASAN, lockdep, panic…) in its log."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_MAX_LINES = 150
_MAX_LINES_WITHOUT_TRACE = 30

# "[    2.057041] ", with "<4>" before or "[  T123]" after it, as consoles, dmesg and kmsg print.
_PREFIX = re.compile(r"^(?:<\d+>)?(?:\[\s*\d+\.\d+\](?:\[\s*[TC]\d+\])?\s?)?")

_LOCKDEP = (
    r"possible (?:recursive locking|circular locking dependency|irq lock inversion|deadlock)"
    r"|inconsistent lock state|suspicious RCU usage|bad unlock balance|bad contention"
    r"|held lock freed|lock held when returning to user space|still has locks held"
    r"|Nested lock was not taken|nested lock was not taken|Invalid wait context"
    r"|(?:HARD|SOFT)IRQ-\S+ -> (?:HARD|SOFT)IRQ-\S+ lock order"
)

# Kernels word these differently, so regular expressions with alternatives fit better than ``ports.lines``.
# The first pattern that matches the beginning of a line gives the kind. Forms as of 6.12 to 7.3.
_HEADS = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("KASAN", r"BUG: KASAN: "),
        ("KFENCE", r"BUG: KFENCE: "),
        ("KMSAN", r"BUG: KMSAN: "),
        ("KCSAN", r"BUG: KCSAN: "),
        ("UBSAN", r"UBSAN: \S+ in "),
        ("lockdep", rf"(?:WARNING|BUG|INFO): (?:{_LOCKDEP})|\[ BUG: (?:{_LOCKDEP})"),
        ("soft lockup", r"(?:watchdog: )?BUG: soft lockup"),
        ("hard lockup", r"(?:NMI )?watchdog: (?:Watchdog detected|CPU\d+: Watchdog detected) hard LOCKUP"),
        ("hung task", r"INFO: task .+ blocked (?:in I/O wait )?for more than \d+ seconds"),
        (
            "RCU stall",
            r"(?:rcu: )?INFO: rcu\S* (?:self-detected stall|detected (?:expedited )?stalls)"
            r"|rcu: rcu\S* kthread (?:starved|timer wakeup didn't happen)",
        ),
        ("kmemleak", r"kmemleak: \d+ new suspected memory leaks"),
        ("panic", r"Kernel panic - not syncing"),
        ("BUG", r"BUG: |kernel BUG at "),
        ("oops", r"Oops: |Internal error: |.*\b[0-9a-f]{4,16} \[#\d+\]"),
        ("oops", r"general protection fault|traps: PANIC|Unable to handle kernel "),
        ("WARNING", r"WARNING: (?:CPU: \d+ PID: \d+|\S+:\d+ at |CPU#\d+)"),
    )
)

_CUT_HERE = re.compile(r"-+\[ cut here \]-+$")
_RULE = re.compile(r"={20,}$")
_END = re.compile(r"---\[ end (?:trace|Kernel panic)|-+\[ end trace")
_TRACE = re.compile(r"\s*(?:Call Trace:|<TASK>|Call trace:)")
_TRACE_END = re.compile(r"\s*</TASK>")
_AFTER_TRACE = re.compile(
    r"\s|Modules linked|RIP: |RSP: |[RCDEF][A-Z0-9]{1,2}[:S]|CR\d|DR\d|PKRU|Code: |irq event"
    r"|(?:hard|soft)irqs last|Kernel Offset|---\[|ORIG_RAX|\s*</?TASK>|Call Trace|The buggy|Allocated|Freed"
)


# Their reports end with a line of "=".
_RULED = ("KASAN", "KCSAN", "KMSAN", "KFENCE", "UBSAN")


@dataclass(frozen=True)
class Splat:
    """A report. ``kind`` is "BUG", "WARNING", "panic", "oops", "KASAN", "KFENCE", "KMSAN",
    "KCSAN", "UBSAN", "lockdep", "hung task", "soft lockup", "hard lockup", "RCU stall" or
    "kmemleak"; ``title`` its first line without time; ``text`` the whole report as logged."""

    kind: str
    title: str
    text: str


def without_time(line: str) -> str:
    """Return a line of a kernel's log without level, time and thread."""
    return _PREFIX.sub("", line)


def parse_splats(log: str) -> list[Splat]:
    """Return every report in a kernel's log (console, dmesg or kmsg text), in order."""
    lines = log.replace("\r", "").split("\n")
    messages = [without_time(line) for line in lines]
    splats = []
    index = 0
    while index < len(lines):
        kind = _kind_at(messages, index)
        if kind is None:
            index += 1
            continue
        end = _end_of(messages, index, kind)
        start = (
            index - 1
            if index and (_CUT_HERE if kind != "KASAN" else _RULE).match(messages[index - 1])
            else index
        )
        splats.append(Splat(kind, messages[index].strip(), "\n".join(lines[start:end]).rstrip()))
        index = end
    return splats


def _kind_at(messages: list[str], index: int) -> str | None:
    """Return the kind of report that begins at this line, or None."""
    for kind, pattern in _HEADS:
        if pattern.match(messages[index]):
            return kind
    if index and _CUT_HERE.match(messages[index - 1]) and messages[index]:
        # WARN() may print its message before its header; the header has the kind.
        ahead = (_kind_at_head(message) for message in messages[index + 1 : index + 6])
        return next((kind for kind in ahead if kind), "WARNING")
    return None


def _kind_at_head(message: str) -> str | None:
    return next((kind for kind, pattern in _HEADS if pattern.match(message)), None)


def _end_of(messages: list[str], start: int, kind: str) -> int:
    """Return the index after the last line of the report that begins at ``start``."""
    traced = False
    for index in _following(messages, start):
        message = messages[index]
        if _END.match(message) or (kind in _RULED and _RULE.match(message)):
            return index + 1
        head = "WARNING" if _CUT_HERE.match(message) else _kind_at_head(message)
        if head and not _continues(kind, head, index - start, traced):
            return index
        traced = traced or bool(_TRACE.match(message))
        if _TRACE_END.match(message) and kind not in _RULED:
            return _end_after_trace(messages, index + 1)
        if not traced and index - start >= _MAX_LINES_WITHOUT_TRACE:
            return index
    return min(start + _MAX_LINES, len(messages))


def _following(messages: list[str], start: int) -> Iterator[int]:
    return iter(range(start + 1, min(start + _MAX_LINES, len(messages))))


def _continues(kind: str, head: str, distance: int, traced: bool) -> bool:
    """Return whether a new head belongs to the current report: one event may print several heads
    (``BUG: kernel NULL pointer dereference`` … ``Oops: 0000 [#1]``)."""
    if traced:
        return False
    if kind in ("BUG", "oops", "KASAN") and head == "oops":
        return True
    return kind == head == "WARNING" and distance < 6


def _end_after_trace(messages: list[str], index: int) -> int:
    """Return the index after the registers, code and modules that follow a stack trace and end the report."""
    while (
        index < len(messages) and _AFTER_TRACE.match(messages[index]) and not _kind_at_head(messages[index])
    ):
        index += 1
        if _END.match(messages[index - 1]):
            break
    return index

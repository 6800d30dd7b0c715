# SPDX-License-Identifier: GPL-2.0
"""Identify the process of this machine that made a change (standard library only)."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Owner:
    """A process, distinct from every earlier or later process with the same pid.

    ``start_time``: clock ticks since boot (field 22 of /proc/PID/stat); ``boot_id``: of this boot."""

    pid: int
    start_time: int
    boot_id: str

    def is_alive(self) -> bool:
        return self.boot_id == boot_id() and start_time(self.pid) == self.start_time


def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def start_time(pid: int, stat_text: str | None = None) -> int | None:
    """Return when the process started, in clock ticks since boot; None if it is dead or a zombie."""
    if stat_text is None:
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                stat_text = file.read()
        except OSError:
            return None
    # The name before the last parenthesis may contain anything; the field after it is field 3, the state.
    fields = stat_text.rpartition(")")[2].split()
    if len(fields) < 20 or fields[0] in "ZX":
        return None
    return int(fields[19])


def current_owner() -> Owner:
    started = start_time(os.getpid())
    assert started is not None
    return Owner(os.getpid(), started, boot_id())

# SPDX-License-Identifier: GPL-2.0
"""Who made a change: a process of this machine, told apart from all others (standard library only)."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Owner:
    """A process, told apart from all others there ever were.

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
    """When the process started, in clock ticks since boot; None if it is dead (also: a zombie)."""
    if stat_text is None:
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                stat_text = file.read()
        except OSError:
            return None
    # The name before the last parenthesis may contain anything. Then: state is field 3.
    fields = stat_text.rpartition(")")[2].split()
    if len(fields) < 20 or fields[0] in "ZX":
        return None
    return int(fields[19])


def current_owner() -> Owner:
    started = start_time(os.getpid())
    assert started is not None
    return Owner(os.getpid(), started, boot_id())

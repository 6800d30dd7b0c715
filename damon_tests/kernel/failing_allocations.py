# SPDX-License-Identifier: GPL-2.0
"""Let a chosen allocation of a kernel's thread fail once: failslab with /proc/PID/fail-nth."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from damon_tests.ports import FileOp, Machine, NotSupported

_SETTINGS = "/sys/kernel/debug/failslab"
_WRITER = "thread-self"
_REMEDY = "use a kernel with CONFIG_FAILSLAB (damon-tests build --config guest --config damon --config debug)"


@dataclass(frozen=True)
class FailedWrite:
    """What a write was answered ("0" or an errno's name), and whether an allocation failed meanwhile."""

    error: str
    failed: bool


def enable(machine: Machine) -> None:
    """Have allocations that may wait fail, too, without a line in the kernel's log. Raises NotSupported."""
    try:
        machine.write_file(f"{_SETTINGS}/ignore-gfp-wait", b"N")
        machine.write_file(f"{_SETTINGS}/verbose", b"0")
    except FileNotFoundError:
        raise NotSupported("allocations that fail on request", remedy=_REMEDY) from None


def write(machine: Machine, path: str, value: str, number: int, pid: int = 0) -> FailedWrite:
    """Write a file while the allocation with this number, from 1, fails: of the writer, or of thread ``pid``.

    The operations are one batch, which one thread of the agent does: it allocates memory itself when it opens
    the file, so that the first numbers fail that.
    """
    counter = f"/proc/{pid or _WRITER}/fail-nth"
    answers = machine.batch(
        [
            FileOp("write", counter, data=str(number).encode()),
            FileOp("write", path, data=value.encode()),
            FileOp("read", counter),
            FileOp("write", counter, data=b"0"),
        ]
    )
    written, left = answers[1], answers[2]
    error = "0"
    if isinstance(written, OSError):
        error = errno.errorcode.get(written.errno or 0, str(written.errno))
    # Reading the counter allocates, too: what failed there was not the write.
    return FailedWrite(error, isinstance(left, bytes) and left.strip() == b"0")

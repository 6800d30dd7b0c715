# SPDX-License-Identifier: GPL-2.0
"""Read from /dev/kmsg what this machine's kernel prints about DAMON while a test runs.

Others use this machine: we only read its log, from its end when we start, and keep only what DAMON
or one of our tasks can have caused.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator

from damon_tests.kernel.splat import parse_splats

KMSG = "/dev/kmsg"
_RECORD_MAX = 8192  # CONSOLE_EXT_LOG_MAX: a shorter buffer is EINVAL
_RECORD = re.compile(r"\d+,\d+,(\d+),[^;]*;(.*)")
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")
# DAMON's functions, files and thread; our workload's name is damon-tests-engine.
_DAMON = re.compile(r"\bk?damo[ns]", re.IGNORECASE)


class OwnLog:
    """The kernel's log from now on; ``text()`` may be called any number of times.

    Where the log is not readable (``kernel.dmesg_restrict``, no such file), ``readable`` is False and the
    text is empty.
    """

    def __init__(self, path: str = KMSG) -> None:
        self._lines: list[str] = []
        self._rest = b""
        self._fd = -1
        with contextlib.suppress(OSError):
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            os.lseek(self._fd, 0, os.SEEK_END)

    @property
    def readable(self) -> bool:
        return self._fd >= 0

    def text(self) -> str:
        """Return the bug reports and lines about DAMON so far, as dmesg prints them."""
        if self.readable:
            self._read()
        return "".join(f"{line}\n" for line in about_damon("\n".join(self._lines)))

    def _read(self) -> None:
        while data := self._record():
            *whole, self._rest = (self._rest + data).split(b"\n")
            for line in whole:
                # Lines that begin with a space belong to the record before; they name its device.
                if match := _RECORD.match(line.decode("utf-8", "replace")):
                    message = _ESCAPED.sub(lambda m: chr(int(m[1], 16)), match[2])
                    self._lines.append(f"[{int(match[1]) / 1e6:12.6f}] {message}")

    def _record(self) -> bytes:
        while True:
            try:
                return os.read(self._fd, _RECORD_MAX)
            except OSError as error:
                if (
                    error.errno != errno.EPIPE
                ):  # records were overwritten before we read them: go on with the next
                    return b""

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def about_damon(log: str) -> Iterator[str]:
    """Yield the lines of a log that name DAMON, and whole reports that name it anywhere."""
    reports = [splat.text for splat in parse_splats(log)]
    rest = log
    for report in reports:
        before, _, rest = rest.partition(report)
        yield from (line for line in before.splitlines() if _DAMON.search(line))
        if _DAMON.search(report):
            yield from report.splitlines()
    yield from (line for line in rest.splitlines() if _DAMON.search(line))

# SPDX-License-Identifier: GPL-2.0
"""Errors, by the part that failed.

Only a judged expectation is a statement about DAMON. The errors here are about the harness, the machine or
the request, and each has its own exit code.
"""

from __future__ import annotations

import errno as errno_module
from collections.abc import Sequence


class DamonTestsError(Exception):
    """Base of all errors that this project raises on purpose; its text is for the user.

    ``exit_code``: the exit code of a command that the error ends.
    """

    exit_code = 6


class UsageError(DamonTestsError):
    """The user's request is malformed or impossible (exit code 2)."""

    exit_code = 2


class HarnessError(DamonTestsError):
    """The harness, guest or workload broke; this is no statement about DAMON (verdict ERROR)."""


class MachineLost(HarnessError):
    """The machine under test does not answer any more (guest died or hangs).

    ``log``: the last lines of its console; empty when unknown. ``partial``: what had been recorded
    until then (a sequence of ``damon.records.Recording``), None without a recording.
    """

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log
        self.partial: object | None = None


class TimedOut(HarnessError):
    """An expected event did not happen before its deadline."""


class DamonHangs(TimedOut):
    """DAMON did not finish in its time, on a machine that answers (verdict FAIL)."""


class NotSupported(DamonTestsError):
    """This DAMON, machine or level lacks something (verdict SKIP).

    ``missing`` lists every missing thing, ``remedy`` how to get it. ``refusals``: the errors of the writes
    that show what is missing.
    """

    exit_code = 5

    def __init__(self, *missing: str, remedy: str = "", refusals: Sequence[TreeError] = ()) -> None:
        self.missing = missing
        self.remedy = remedy
        self.refusals = tuple(refusals)
        text = "; ".join(missing)
        super().__init__(f"{text} ({remedy})" if remedy else text)


class TreeError(DamonTestsError, OSError):
    """read(2) or write(2) of a file of DAMON's tree failed.

    Attributes: ``path`` (absolute), ``operation`` ("read", "write" or "list"), ``value``
    (what was written, or None), ``errno`` (int) and ``cause`` (a likely reason in words,
    filled in by ``damon.client``, which knows DAMON; empty otherwise).
    """

    def __init__(
        self,
        operation: str,
        path: str,
        errno: int,
        value: str | None = None,
        cause: str = "",
    ) -> None:
        self.operation = operation
        self.path = path
        self.value = value
        self.cause = cause
        # OSError fills .errno and .strerror from the first two arguments.
        OSError.__init__(self, errno, errno_module.errorcode.get(errno, str(errno)))

    @property
    def errno_name(self) -> str:
        """Return the symbolic name, such as "EBUSY"."""
        return errno_module.errorcode.get(self.errno or 0, str(self.errno))

    def __str__(self) -> str:
        what = f"{self.operation} {self.path}"
        if self.value is not None:
            what += f" := {self.value!r}"
        text = f"{what}: {self.errno_name}"
        return f"{text} ({self.cause})" if self.cause else text

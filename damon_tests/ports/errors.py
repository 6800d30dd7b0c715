# SPDX-License-Identifier: GPL-2.0
"""What can go wrong, told apart by whose fault it is.

Broken is not wrong: only a judged expectation says something about DAMON. Everything
here is about the harness, the machine, or the request, and has its own exit code.
"""

from __future__ import annotations

import errno as errno_module


class DamonTestsError(Exception):
    """Base of all errors this project raises on purpose; its text is for the user.

    ``exit_code`` is what a command ends with when the error reaches its top level.
    """

    exit_code = 6


class UsageError(DamonTestsError):
    """The user asked for something malformed or impossible (exit code 2)."""

    exit_code = 2


class HarnessError(DamonTestsError):
    """The harness, guest or workload broke; nothing is said about DAMON (verdict ERROR)."""


class MachineLost(HarnessError):
    """The machine under test does not answer any more (guest died or hangs).

    ``log`` is what its console said last; empty when unknown. ``partial`` is what had been
    recorded when it happened (a sequence of ``damon.records.Recording``), None when nothing was.
    """

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log
        self.partial: object | None = None


class TimedOut(HarnessError):
    """A deadline passed while waiting for something that should have happened."""


class DamonHangs(TimedOut):
    """DAMON did not do what it must within the time it has, on a machine that answers (verdict FAIL)."""


class NotSupported(DamonTestsError):
    """This DAMON, machine or level lacks something (verdict SKIP).

    ``missing`` lists every missing thing, ``remedy`` how to get it.
    """

    exit_code = 5

    def __init__(self, *missing: str, remedy: str = "") -> None:
        self.missing = missing
        self.remedy = remedy
        text = "; ".join(missing)
        super().__init__(f"{text} ({remedy})" if remedy else text)


class TreeError(DamonTestsError, OSError):
    """Reading or writing one file of DAMON's tree failed, as read(2)/write(2) told.

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
        """The symbolic name, such as "EBUSY"."""
        return errno_module.errorcode.get(self.errno or 0, str(self.errno))

    def __str__(self) -> str:
        what = f"{self.operation} {self.path}"
        if self.value is not None:
            what += f" := {self.value!r}"
        text = f"{what}: {self.errno_name}"
        return f"{text} ({self.cause})" if self.cause else text

# SPDX-License-Identifier: GPL-2.0
"""Exchange lines with a process, with deadlines on its machine's clock."""

from __future__ import annotations

from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_SEC, Clock, ExitStatus, HarnessError, Process, TimedOut

_POLL_NS = 2 * NSEC_PER_MSEC
_LAST_WORDS_NS = 500 * NSEC_PER_MSEC
_SIGKILL = 9


class Dialogue:
    """Sends commands to a process's stdin, reads answers from its stdout and complaints from its stderr."""

    def __init__(self, process: Process, clock: Clock) -> None:
        self.pid = process.pid
        self._process = process
        self._clock = clock
        self._partial = b""
        self._lines: list[list[str]] = []
        self._stderr = b""

    def say(self, data: bytes) -> None:
        """Write to its stdin. If the process has ended, waiting for the answer raises."""
        try:
            self._process.write_stdin(data)
        except (OSError, ValueError):
            return

    def lines_until(self, word: str, timeout_ns: int) -> list[list[str]]:
        """Return the lines up to the first that begins with ``word``, split into words.

        Raises HarnessError with its status and stderr if the process ends first; TimedOut.
        """
        deadline = self._clock.now_ns() + timeout_ns
        if not self._clock.wait_until(lambda: self._has(word) or self.poll() is not None, deadline, _POLL_NS):
            raise TimedOut(f"process {self.pid} did not say {word!r} within {timeout_ns / NSEC_PER_SEC:g} s")
        if not self._has(word) and not self._said_at_last(word):
            raise HarnessError(self._death(word))
        for count, words in enumerate(self._lines, start=1):
            if words[0] == word:
                taken, self._lines = self._lines[:count], self._lines[count:]
                return taken
        raise AssertionError("the line was there a moment ago")

    def _said_at_last(self, word: str) -> bool:
        """Return whether the line has arrived, also shortly after the process ended."""
        deadline = self._clock.now_ns() + _LAST_WORDS_NS
        self._clock.wait_until(lambda: self._has(word) or self.complaint() != "", deadline, _POLL_NS)
        return self._has(word)

    def _has(self, word: str) -> bool:
        data = self._partial + self._process.read_stdout()
        *lines, self._partial = data.split(b"\n")
        self._lines += [line.decode("utf-8", "replace").split() for line in lines if line.strip()]
        return any(words[0] == word for words in self._lines)

    def _death(self, word: str) -> str:
        status = self.poll()
        how = "ended" if status is None else _describe(status)
        return f"process {self.pid} {how} before it said {word!r}: {self.complaint() or 'it said nothing'}"

    def complaint(self) -> str:
        """Return everything it wrote to stderr, on one line."""
        self._stderr += self._process.read_stderr()
        return " ".join(self._stderr.decode("utf-8", "replace").split())

    def poll(self) -> ExitStatus | None:
        return self._process.poll()

    def end(self, timeout_ns: int) -> ExitStatus:
        """Ask it to stop; kill it if it does not. Return how it ended."""
        self.say(b"stop\n")
        try:
            return self._process.wait(timeout_ns)
        except TimedOut:
            self._process.kill(_SIGKILL)
            return self._process.wait(timeout_ns)


def _describe(status: ExitStatus) -> str:
    if status.signal is not None:
        return f"was killed by signal {status.signal}"
    return f"ended with exit code {status.code}"

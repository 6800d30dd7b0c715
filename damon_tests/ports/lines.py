# SPDX-License-Identifier: GPL-2.0
"""Lines of fixed shape, such as those of /proc, debugfs and tracefs, read with the package ``parse``.

A format is written as the line is printed, "{start:x}-{end:x} : System RAM", and gives values of the right
type. It takes about ten times as long as a regular expression: lines of traces, which come by the hundred
thousand, are read with one (``damon.trace``, ``damon.sleeps``, ``damon.damo_text``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import parse

_BLANKS = re.compile(r"[ \t]+")


class LineFormat:
    """A format of ``parse``, compiled; letters count as they are written."""

    def __init__(self, format: str) -> None:
        self._parser = parse.compile(format, case_sensitive=True)

    def read(self, line: str) -> Mapping[str, Any] | None:
        """Return the values of a line by name; None where it has another shape."""
        found = self._parser.parse(_BLANKS.sub(" ", line).rstrip())
        return None if found is None else found.named

    def each(self, text: str) -> Iterator[Mapping[str, Any]]:
        """Yield the values of each line of ``text`` that has this shape."""
        for line in text.splitlines():
            values = self.read(line)
            if values is not None:
                yield values

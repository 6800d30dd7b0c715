# SPDX-License-Identifier: GPL-2.0
"""Read lines of fixed format, such as those of /proc, debugfs and tracefs, with the package ``parse``.

A format looks like the line, "{start:x}-{end:x} : System RAM", and its values have the right
type. It takes about ten times as long as a regular expression, so the lines of traces, hundreds of
thousands, are read with regular expressions (``damon.trace``, ``damon.sleeps``, ``damon.damo_text``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import parse

_BLANKS = re.compile(r"[ \t]+")


class LineFormat:
    """A compiled format of ``parse``; upper and lower case differ."""

    def __init__(self, format: str) -> None:
        self._parser = parse.compile(format, case_sensitive=True)

    def read(self, line: str) -> Mapping[str, Any] | None:
        """Return the values of a line by name; None if it has another format."""
        result = self._parser.parse(_BLANKS.sub(" ", line).rstrip())
        return None if result is None else result.named

    def each(self, text: str) -> Iterator[Mapping[str, Any]]:
        """Yield the values of each line of ``text`` that has this format."""
        for line in text.splitlines():
            values = self.read(line)
            if values is not None:
                yield values

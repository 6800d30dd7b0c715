# SPDX-License-Identifier: GPL-2.0
"""Read what make printed: which errors are DAMON's own, and what else stopped the build.

The compiler's and linker's lines have optional parts, which regular expressions state more clearly than
``parse``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_DAMON = re.compile(r"^(mm/damon/|include/linux/damon\.h$|include/trace/events/damon\.h$)")
_COMPILER = re.compile(
    r"^(?P<path>[^\s:]+\.[chS]):(?P<line>\d+):(?:\d+:)? (?P<kind>fatal error|error|warning): (?P<text>.*)$"
)
_LINKER = re.compile(r"^\S*\bld(?:\.\w+)?: (?P<text>.*(?:undefined reference|multiple definition|cannot).*)$")
_KBUILD = re.compile(
    r"^(?:make(?:\[\d+\])?: \*\*\* (?!\[)(?P<make>.*?)\.?(?: +Stop\.)?|(?P<modpost>ERROR: modpost: .*)"
    r"|(?P<kconfig>\S*Kconfig\S*:\d+:.*error.*)|\*\*\* (?P<text>.*))$"
)
_FOLLOWS = ("recipe for target", "Waiting for unfinished jobs")


@dataclass(frozen=True)
class Diagnostic:
    """A message of the compiler. ``path`` is relative to the tree; ``kind``: "error" or "warning"."""

    path: str
    line: int
    kind: str
    text: str

    @property
    def is_damons(self) -> bool:
        return bool(_DAMON.match(self.path))

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.kind}: {self.text}"


@dataclass(frozen=True)
class Diagnosis:
    """``others``: errors without a source line (linker, make, Kconfig), in words."""

    diagnostics: tuple[Diagnostic, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def damon_errors(self) -> tuple[Diagnostic, ...]:
        return tuple(d for d in self.diagnostics if d.is_damons and d.kind == "error")

    @property
    def damon_warnings(self) -> tuple[Diagnostic, ...]:
        return tuple(d for d in self.diagnostics if d.is_damons and d.kind == "warning")

    def first_error(self) -> str:
        """Return the first error of all; empty if none was recognised."""
        errors = [str(d) for d in self.diagnostics if d.kind == "error"]
        return next(iter([*errors, *self.others]), "")


def diagnose(lines: Iterable[str], tree: Path) -> Diagnosis:
    """Read the output of make; paths become relative to ``tree``, each message is listed once."""
    diagnostics: dict[Diagnostic, None] = {}
    others: dict[str, None] = {}
    for raw in lines:
        line = raw.rstrip()
        if match := _COMPILER.match(line):
            kind = "warning" if match["kind"] == "warning" else "error"
            path = relative(match["path"], tree)
            diagnostics[Diagnostic(path, int(match["line"]), kind, match["text"])] = None
        elif text := _other(line):
            others[text] = None
    return Diagnosis(tuple(diagnostics), tuple(others))


def _other(line: str) -> str:
    match = _LINKER.match(line) or _KBUILD.match(line)
    text = next((group for group in match.groups() if group), "").strip() if match else ""
    return "" if any(words in text for words in _FOLLOWS) else text


def relative(path: str, tree: Path) -> str:
    """Return a path of the compiler's, such as ``../mm/damon/core.c`` or an absolute one, below the tree."""
    if Path(path).is_absolute():
        return str(Path(path).relative_to(tree)) if Path(path).is_relative_to(tree) else path
    return re.sub(r"^(\.\./|\./)+", "", path)

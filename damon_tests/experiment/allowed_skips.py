# SPDX-License-Identifier: GPL-2.0
"""The list of skips that a gate allows (``--allow-skips FILE``): what may be missing, and why.

The file is a YAML list of entries::

    - missing: "attrs.probes"             # a feature, or the text of the skip; * stands for any text
      because: DAMON has probes since 7.2
      tests: "suites/monitoring/*"        # ids of tests; default: all

A test may be skipped only if an entry allows each thing that it misses. Other skips are FAIL.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import yaml

from damon_tests.ports import UsageError

_FIELDS = ("missing", "because", "tests")


@dataclass(frozen=True)
class AllowedSkip:
    """An entry of the list; ``missing`` and ``tests`` may contain "*"."""

    missing: str
    because: str
    tests: str = "*"

    @property
    def name(self) -> str:
        """Return how the results of a run name the entry."""
        return f"{self.missing} of {self.tests}" if self.tests != "*" else self.missing

    def allows(self, test: str, what: str) -> bool:
        """Return whether the test may be skipped for ``what`` is missing ("ctx.pause: no file ...")."""
        named = fnmatchcase(what, self.missing) or fnmatchcase(what.partition(": ")[0], self.missing)
        return named and fnmatchcase(test, self.tests)


@dataclass(frozen=True)
class AllowedSkips:
    """The list of a file."""

    path: Path
    entries: tuple[AllowedSkip, ...]

    def covering(self, test: str, missing: Sequence[str]) -> tuple[AllowedSkip, ...] | None:
        """Return the entries that together allow a skip for all that is missing; None: it is not allowed."""
        first = [next((e for e in self.entries if e.allows(test, what)), None) for what in missing]
        allowing = tuple(entry for entry in first if entry is not None)
        return tuple(dict.fromkeys(allowing)) if missing and len(allowing) == len(first) else None

    def never_used(self, names: Collection[str]) -> list[str]:
        """Return the names of the entries that are not among ``names``: they allowed nothing."""
        return [entry.name for entry in self.entries if entry.name not in names]


def load(path: Path) -> AllowedSkips:
    """Read a list. Raises UsageError "file: what is wrong" if it is malformed."""
    try:
        rows = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise UsageError(f"--allow-skips {path}: cannot be read ({' '.join(str(error).split())})") from None
    if not isinstance(rows, list):
        raise UsageError(f"--allow-skips {path}: a list of entries is expected, as in ci/skips")
    for number, row in enumerate(rows, 1):
        texts = isinstance(row, dict) and all(isinstance(value, str) and value for value in row.values())
        if not texts or not {"missing", "because"} <= row.keys() <= set(_FIELDS):
            raise UsageError(
                f"--allow-skips {path}: entry {number} needs texts: missing, because, and tests if not all"
            )
    return AllowedSkips(path, tuple(AllowedSkip(**row) for row in rows))

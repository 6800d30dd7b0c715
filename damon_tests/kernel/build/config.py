# SPDX-License-Identifier: GPL-2.0
"""Merge configuration fragments, and compare a finished .config with what they asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from damon_tests import bundle
from damon_tests.ports import UsageError

DEFAULT = ("guest", "damon", "memcg", "numa")
"""Fragments of a kernel that runs all suites. ``debug`` is no part: guests become several times slower."""

_SET = re.compile(r"^(CONFIG_\w+)=(.*)$")
_NOT_SET = re.compile(r"^# (CONFIG_\w+) is not set$")


@dataclass(frozen=True)
class NotObtained:
    """An option that the finished configuration does not have as it was asked for; "n" means not set."""

    option: str
    asked: str
    got: str
    known: bool

    def __str__(self) -> str:
        why = f"is {self.got}" if self.known else "is unknown to this tree, or what it depends on is not set"
        return f"{self.option}={self.asked} was asked for, but {why}"


def fragments_dir() -> Path:
    return bundle.root() / "ci" / "kconfig"


def fragment_path(name: str) -> Path:
    """Return the file of a fragment: one of ours by its name (``guest``), else a path. Raises UsageError."""
    ours = fragments_dir() / f"{name}.config"
    if "/" not in name and ours.is_file():
        return ours
    path = Path(name).expanduser()
    if path.is_file():
        return path
    known = ", ".join(sorted(p.stem for p in fragments_dir().glob("*.config")))
    raise UsageError(f"--config {name}: no such file, and none of our fragments ({known})")


def merge(names: Sequence[str]) -> dict[str, str]:
    """Return the options of all fragments, later ones win; "n" for one that a fragment switches off."""
    options: dict[str, str] = {}
    for name in names:
        path = fragment_path(name)
        try:
            options.update(parse(path.read_text(encoding="utf-8", errors="replace")))
        except OSError as error:
            raise UsageError(f"--config {name}: cannot be read ({error.strerror})") from None
    return options


def parse(text: str) -> dict[str, str]:
    """Parse the lines of a fragment or .config, including those of options that are not set ("n")."""
    options: dict[str, str] = {}
    for line in text.splitlines():
        if match := _SET.match(line):
            options[match[1]] = match[2]
        elif match := _NOT_SET.match(line):
            options[match[1]] = "n"
    return options


def as_text(options: Mapping[str, str]) -> str:
    """Return the options as kconfig reads them from KCONFIG_ALLCONFIG."""
    lines = (f"# {name} is not set" if v == "n" else f"{name}={v}" for name, v in sorted(options.items()))
    return "\n".join(lines) + "\n"


def not_obtained(asked: Mapping[str, str], config: str) -> list[NotObtained]:
    """Return the options that a finished .config has otherwise than asked, by name."""
    got = parse(config)
    return [
        NotObtained(name, value, got.get(name, "n"), name in got)
        for name, value in sorted(asked.items())
        if got.get(name, "n") != value
    ]

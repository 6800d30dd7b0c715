# SPDX-License-Identifier: GPL-2.0
"""What commands share: the parser of a command, kinds of values, and options of several commands."""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path
from typing import Any, TypeAlias

EXIT_CODES = """exit codes: 0 good · 1 FAIL, or an XFAIL that passes · 2 usage or interrupted ·
5 nothing ran · 6 ERROR (harness, guest or workload broke) · 7 INCONCLUSIVE"""

GUEST_KERNELS = "debian:SERIES|stable|newest[@FLAVOUR], or a kernel image's path"
"""What ``--kernel`` takes for a kernel in a guest, as in --help."""


class Command(argparse.ArgumentParser):
    """A command's parser: what it does not know is its own error, with its own usage."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            hint = "; options of pytest are given as --pytest='OPTIONS'" if self.prog.endswith(" run") else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return parsed, unknown


# Annotations are not evaluated, this would be.
Commands: TypeAlias = "argparse._SubParsersAction[Command]"


_MOST = 2**31
_TIME = re.compile(r"(\d+(?:\.\d+)?)(s|min|h)")
_SECONDS = {"s": 1, "min": 60, "h": 3600}
_LONGEST_SHOWN = 60  # of a value that a message repeats


def shown(text: str) -> str:
    """Return a value as a message repeats it: cut if it is huge."""
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def count(text: str) -> int:
    """Parse a count: 1 or more."""
    number = int(text)
    if not 1 <= number < _MOST:
        limit = "1 or more" if number < 1 else f"less than {_MOST}"
        raise argparse.ArgumentTypeError(f"{shown(text)} is not {limit}")
    return number


def duration(text: str) -> float:
    """Parse a time in the unit of the option: more than 0, and finite."""
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no time: give more than 0")
    return number


def budget_s(text: str) -> float:
    """Return the seconds of a time with its unit, "90s", "30min" or "2h"."""
    match = _TIME.fullmatch(text.replace(" ", ""))
    if match is None:
        raise argparse.ArgumentTypeError(f"{shown(text)!r} is no time: write 90s, 30min or 2h")
    return float(match[1]) * _SECONDS[match[2]]


def file(text: str) -> Path:
    """Parse the name of a file or directory to write."""
    if not text:
        raise argparse.ArgumentTypeError("an empty name is no place to write to")
    return Path(text)


def workers(text: str) -> str:
    """Parse xdist's ``-n``: a number (0: all tests in this process), or a word of its own."""
    if text not in ("auto", "logical") and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{shown(text)!r} is neither a number nor auto")
    if text.isdecimal() and len(text) > 4:
        raise argparse.ArgumentTypeError(f"{shown(text)} workers are more than any machine can run")
    return text


def parts(text: str) -> tuple[int, int]:
    """Return (I, N) of ``--shard I/N``. Raises ArgumentTypeError, which is no error of this project's."""
    part, slash, whole = text.partition("/")
    if not (slash and part.isdecimal() and whole.isdecimal() and max(len(part), len(whole)) < 10):
        raise argparse.ArgumentTypeError(f"{shown(text)!r} is not I/N, such as 2/3")
    if not 1 <= int(part) <= int(whole):
        raise argparse.ArgumentTypeError(f"{text} is not I/N with I from 1 to N, such as 2/3")
    return int(part), int(whole)


def shard(text: str) -> str:
    """Check ``I/N``, the I-th of N parts."""
    parts(text)
    return text


def add_output(p: argparse.ArgumentParser) -> None:
    """Add ``--output`` of a command that makes results."""
    p.add_argument("--output", type=file, metavar="DIR", help="where results go (default: a new directory)")


def add_overwrite(p: argparse.ArgumentParser) -> None:
    """Add ``--overwrite``, of a command with ``--output``."""
    p.add_argument("--overwrite", action="store_true", help="replace the results that --output holds")


# argparse calls them so: "invalid number value: 'x'".
count.__name__, duration.__name__ = "number", "number"

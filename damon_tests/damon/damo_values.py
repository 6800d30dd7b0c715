# SPDX-License-Identifier: GPL-2.0
"""Read numbers as damo writes them in its JSON: plain, or with units.

Counts "4,294,967,296", "max"; sizes "1.500 GiB", "4K"; times "5 ms", "1 s 200 ms", "1 m 3.250 s"; shares
"4.5 %". Plain numbers may be JSON numbers or text. Each function raises ValueError for anything else.
"""

from __future__ import annotations

import re
from fractions import Fraction

from damon_tests.damon.params import U64_MAX

_BYTES = {"": 1, **{letter: 1 << (10 * i) for i, letter in enumerate("KMGTPE", 1)}}
_SIZE = re.compile(r"(-?[\d.,]+)\s*([KMGTPE]?)(?:i?B)?")
_NS = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86400 * 10**9,
}
_TIME = re.compile(r"\s*(-?[\d.,]+)\s*(ns|us|ms|s|m|h|d)")


def _fraction(text: str) -> Fraction:
    return Fraction(text.replace(",", ""))


def count(value: object) -> int:
    """Return a plain number as an integer (fractions are cut off)."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{value!r} is not a number")
    if value == "max":
        return U64_MAX
    return int(value if not isinstance(value, str) else _fraction(value.strip()))


def size(value: object) -> int:
    """Return a size in bytes."""
    if not isinstance(value, str) or value in ("max", "min"):
        return 0 if value == "min" else count(value)
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise ValueError(f"{value!r} is not a size")
    return min(U64_MAX, int(_fraction(match[1]) * _BYTES[match[2]]))


def time_ns(value: object, unit_ns: int = 1) -> int:
    """Return a time in nanoseconds; a number without a unit counts in ``unit_ns``."""
    if not isinstance(value, str):
        return int(Fraction(value) * unit_ns) if isinstance(value, float) else count(value) * unit_ns
    if value == "max":
        return U64_MAX
    parts = list(_TIME.finditer(value))
    if not parts:
        return int(_fraction(value.strip()) * unit_ns)
    if _TIME.sub("", value).strip(" -"):
        raise ValueError(f"{value!r} is not a time")
    # A sign stands before the first part only and applies to all parts.
    total = sum(int(abs(_fraction(part[1])) * _NS[part[2]]) for part in parts)
    return -total if value.strip().startswith("-") else total


def time_us(value: object) -> int:
    """Return a time in microseconds; a number without a unit is in microseconds."""
    return time_ns(value, 1000) // 1000


def percent(value: object) -> Fraction:
    """Return a share in percent from 5, "5" or "4.5 %"."""
    if isinstance(value, str):
        return _fraction(value.replace("%", "").strip())
    if isinstance(value, int | float):
        return Fraction(value)
    raise ValueError(f"{value!r} is not a share")

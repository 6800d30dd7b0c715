# SPDX-License-Identifier: GPL-2.0
"""Parse and format the sizes, durations and rates of pattern files.

A number without a unit is refused (except 0): "64" could be bytes, pages or MiB. Pages and huge pages are
those of the machine under test.
"""

from __future__ import annotations

import re
from fractions import Fraction

from damon_tests.ports import huge_page_size, page_size

SIZE_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
DURATION_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "min": 60_000_000_000,
    "h": 3_600_000_000_000,
}
# Rates are passes per unit of time; the value is the unit's length in ns.
RATE_UNITS = {"/s": 1_000_000_000, "Hz": 1_000_000_000, "/ms": 1_000_000}

_QUANTITY = re.compile(r"([0-9]{1,40}(?:\.[0-9]{1,40})?)\s*([^\s0-9].*)?")


def parse_size(text: str) -> int:
    """Return the bytes of "8 MiB" or "3 huge pages".

    Raises ValueError that says what is wrong and what is right.
    """
    pages = {"page": page_size(), "pages": page_size()}
    huge_pages = {"huge page": huge_page_size(), "huge pages": huge_page_size()}
    return _parse(text, SIZE_UNITS | pages | huge_pages, "size", "8 MiB")


def parse_duration(text: str) -> int:
    """Return the nanoseconds of "2 ms". Raises ValueError."""
    return _parse(text, DURATION_UNITS, "duration", "10 ms")


def parse_rate(text: str) -> int:
    """Return the nanoseconds between two passes of "500 /s", rounded down. Raises ValueError."""
    number, unit = _split(text, RATE_UNITS, "rate", "500 /s")
    if number == 0:
        raise ValueError("a rate of zero: leave the access out instead")
    return int(RATE_UNITS[unit] / number)


def format_size(value: int) -> str:
    """Return the shortest exact form: "8 MiB" for 8388608."""
    return _format(value, SIZE_UNITS, "B")


def format_duration(value: int) -> str:
    """Return the shortest exact form: "2 ms" for 2000000."""
    units = {unit: factor for unit, factor in DURATION_UNITS.items() if unit != "µs"}
    return _format(value, units, "ns")


def _split(text: str, units: dict[str, int], what: str, example: str) -> tuple[Fraction, str]:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a {what}: write a number and a unit, such as {example!r}")
    unit = (match[2] or "").strip()
    if unit not in units:
        known = ", ".join(units)
        problem = f"unknown unit {unit!r}" if unit else "a unit is missing"
        raise ValueError(f"{text!r} is not a {what}: {problem}; the units are {known}")
    return Fraction(match[1]), unit


def _parse(text: str, units: dict[str, int], what: str, example: str) -> int:
    if text.strip() == "0":
        return 0
    number, unit = _split(text, units, what, example)
    value = number * units[unit]
    if value.denominator != 1:
        smallest = next(iter(units))
        raise ValueError(f"{text!r} is not a whole number of {smallest}")
    return int(value)


def _format(value: int, units: dict[str, int], smallest: str) -> str:
    for unit, factor in sorted(units.items(), key=lambda item: -item[1]):
        if value and value % factor == 0:
            return f"{value // factor} {unit}"
    return f"{value} {smallest}"

# SPDX-License-Identifier: GPL-2.0
"""The rules of the tree, as small pure functions (DAMON 7.3 unless a name says otherwise).

``ruleset.Rules`` collects them. Refusals are CoreError with the errno of write(2).
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from damon_tests.reference.rules.errors import CoreError, invalid

Version = tuple[int, int]

_DIGITS = {8: "01234567", 10: "0123456789", 16: "0123456789abcdef"}


def parse_integer(text: str, low: int, high: int) -> int:
    """Parse a number as kstrtoull and its relatives do: base by prefix, one sign, one newline."""
    body = text
    negative = low < 0 and body.startswith("-")
    if negative or body.startswith("+"):
        body = body[1:]
    base = 10
    if body[:2].lower() == "0x" and body[2:3] and body[2:3].lower() in _DIGITS[16]:
        base, body = 16, body[2:]
    elif body.startswith("0"):
        base = 8
    length = 0
    while length < len(body) and body[length].lower() in _DIGITS[base]:
        length += 1
    number = int(body[:length], base) if length else 0
    # Overflow of 64 bits is noticed while reading digits, before what follows them.
    if number >= 1 << 64:
        raise CoreError(errno.ERANGE, f"{text!r} is larger than 64 bits")
    if not length or body[length:] not in ("", "\n"):
        raise invalid(f"{text!r} is not a number")
    number = -number if negative else number
    if not low <= number <= high:
        raise CoreError(errno.ERANGE, f"{text!r} is not within {low}..{high}")
    return number


def parse_boolean(text: str) -> bool:
    """Parse the first one or two characters; the rest is ignored. Enable and disable are known, too."""
    return _parse_boolean(text, "yt1e", "nf0d")


def parse_boolean_6_12(text: str) -> bool:
    """6.12: without enable and disable."""
    return _parse_boolean(text, "yt1", "nf0")


def _parse_boolean(text: str, yes: str, no: str) -> bool:
    first, second = text[:1].lower(), text[1:2].lower()
    if (first and first in yes) or (first == "o" and second == "n"):
        return True
    if (first and first in no) or (first == "o" and second == "f"):
        return False
    raise invalid(f"{text!r} is neither yes nor no")


def parse_keyword(text: str, known: Sequence[str]) -> str:
    """Accept exactly one of the known words, with one optional newline."""
    word = text.removesuffix("\n")
    if word in known:
        return word
    raise invalid(f"{word!r} is not one of {', '.join(known)}")


def resized_count(count: int, maximum: int | None) -> int:
    """Return the count that a ``nr_*`` file accepts. Raises CoreError for others."""
    if count < 0 or (maximum is not None and count > maximum):
        raise invalid(f"{count} is not allowed here")
    return count


def refuses_absent(what: str) -> bool:
    """Return whether a request is refused that names an absent "process", control "group" or memory "node".

    Goals of nodes that do not exist are neutral (§4.5).
    """
    return what in ("process", "group")


def lock_is_busy(locked: bool) -> bool:
    """Whether the global lock refuses: it is tried, never waited for."""
    return locked


def statistic(name: str) -> str:
    """Return the counter of a scheme that a file of ``stats/`` shows: the one of its name."""
    return name


def total_bytes(total: int, start: int, end: int) -> int:
    """Return ``tried_regions/total_bytes`` after one more region."""
    return total + end - start


def refresh_is_due(now_jiffies: int, refreshed_jiffies: int, refresh_ms: int) -> bool:
    """Whether ``refresh_ms`` is over, in ticks of 4 ms; 0 is off."""
    return refresh_ms != 0 and now_jiffies >= refreshed_jiffies + -(-refresh_ms // 4)

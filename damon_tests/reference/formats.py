# SPDX-License-Identifier: GPL-2.0
"""How text becomes a value and a value becomes text in DAMON's files (specification §5.1).

``parse`` raises CoreError with the errno of write(2); ``show`` gives the text without its newline.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Protocol

from damon_tests.reference.errors import CoreError, invalid

Value = int | bool | str
Version = tuple[int, int]

_DIGITS = {8: "01234567", 10: "0123456789", 16: "0123456789abcdef"}


class Format(Protocol):
    def parse(self, text: str, version: Version) -> Value: ...

    def show(self, value: Value) -> str: ...


def parse_integer(text: str, low: int, high: int) -> int:
    """A number as kstrtoull and its relatives read it: base by prefix, one sign, one newline."""
    body = text
    negative = low < 0 and body.startswith("-")
    if negative or body.startswith("+"):
        body = body[1:]
    base = 10
    if body[:2].lower() == "0x" and body[2:3].lower() in _DIGITS[16] and body[2:3]:
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


@dataclass(frozen=True)
class Integer:
    """``einval_only``: files that answer every parse error with EINVAL."""

    low: int
    high: int
    einval_only: bool = False
    nonzero: bool = False

    def parse(self, text: str, version: Version) -> int:
        try:
            number = parse_integer(text, self.low, self.high)
        except CoreError as error:
            raise invalid(error.why) if self.einval_only else error from None
        if self.nonzero and not number:
            raise invalid("0 is not allowed")
        return number

    def show(self, value: Value) -> str:
        return str(int(value))


@dataclass(frozen=True)
class Boolean:
    """Only the first one or two characters count; e/E and d/D came with 6.13's parser."""

    def parse(self, text: str, version: Version) -> bool:
        first, second = text[:1].lower(), text[1:2].lower()
        yes, no = ("yt1", "nf0") if version < (6, 16) else ("yt1e", "nf0d")
        if (first and first in yes) or (first == "o" and second == "n"):
            return True
        if (first and first in no) or (first == "o" and second == "f"):
            return False
        raise invalid(f"{text!r} is neither yes nor no")

    def show(self, value: Value) -> str:
        return "Y" if value else "N"


@dataclass(frozen=True)
class Keyword:
    """Exactly one of the words, with one optional newline. ``words``: (word, first version)."""

    words: tuple[tuple[str, Version], ...]

    def parse(self, text: str, version: Version) -> str:
        word = text.removesuffix("\n")
        for known, since in self.words:
            if known == word and since <= version:
                return word
        raise invalid(f"{word!r} is not one of {', '.join(self.accepted(version))}")

    def show(self, value: Value) -> str:
        return str(value)

    def accepted(self, version: Version) -> list[str]:
        return [word for word, since in self.words if since <= version]


@dataclass(frozen=True)
class Path:
    """Kept verbatim, a trailing newline included; reading appends another."""

    def parse(self, text: str, version: Version) -> str:
        return text

    def show(self, value: Value) -> str:
        return str(value)


U64 = Integer(0, (1 << 64) - 1)
U32 = Integer(0, (1 << 32) - 1)
INT = Integer(-(1 << 31), (1 << 31) - 1)
U64_EINVAL = Integer(0, (1 << 64) - 1, einval_only=True)
U32_EINVAL = Integer(0, (1 << 32) - 1, einval_only=True)
INT_EINVAL = Integer(-(1 << 31), (1 << 31) - 1, einval_only=True)
U64_NONZERO = Integer(0, (1 << 64) - 1, nonzero=True)
BOOL = Boolean()
PATH = Path()


def words(text: str, **since: str) -> Keyword:
    """A Keyword from "word word ...", with words added later as ``word="7.2"``."""
    pairs: list[tuple[str, Version]] = []
    for word in text.split():
        major, minor = since.get(word, "0.0").split(".")
        pairs.append((word, (int(major), int(minor))))
    return Keyword(tuple(pairs))

# SPDX-License-Identifier: GPL-2.0
"""Formats of DAMON's files: text to value and back (specification §5.1).

``parse`` raises CoreError with the errno of write(2); ``show`` gives the text without its newline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from damon_tests.ports.word import unsigned_long_max
from damon_tests.reference.rules.errors import CoreError, invalid
from damon_tests.reference.rules.ruleset import Rules
from damon_tests.reference.rules.tree import Version

Value = int | bool | str


@dataclass(frozen=True)
class Grammar:
    """What parsing depends on: the words that a version knows, and the rules of the tree."""

    version: Version
    rules: Rules


class Format(Protocol):
    def parse(self, text: str, grammar: Grammar) -> Value: ...

    def show(self, value: Value) -> str: ...


@dataclass(frozen=True)
class Integer:
    """``high``: None is the largest ``unsigned long`` of the machine under test. ``einval_only``: files that
    refuse every parse error with EINVAL."""

    low: int
    high: int | None
    einval_only: bool = False
    nonzero: bool = False

    def parse(self, text: str, grammar: Grammar) -> int:
        high = unsigned_long_max() if self.high is None else self.high
        try:
            number = grammar.rules.parse_integer(text, self.low, high)
        except CoreError as error:
            raise invalid(error.why) if self.einval_only else error from None
        if self.nonzero and not number:
            raise invalid("0 is not allowed")
        return number

    def show(self, value: Value) -> str:
        return str(int(value))


@dataclass(frozen=True)
class Boolean:
    def parse(self, text: str, grammar: Grammar) -> bool:
        return grammar.rules.parse_boolean(text)

    def show(self, value: Value) -> str:
        return "Y" if value else "N"


@dataclass(frozen=True)
class Keyword:
    """``words``: (word, first version)."""

    words: tuple[tuple[str, Version], ...]

    def parse(self, text: str, grammar: Grammar) -> str:
        return grammar.rules.parse_keyword(text, self.accepted(grammar.version))

    def show(self, value: Value) -> str:
        return str(value)

    def accepted(self, version: Version) -> list[str]:
        return [word for word, since in self.words if since <= version]


@dataclass(frozen=True)
class Path:
    """Any text."""

    def parse(self, text: str, grammar: Grammar) -> str:
        return text

    def show(self, value: Value) -> str:
        return str(value)


ULONG = Integer(0, None)
U32 = Integer(0, (1 << 32) - 1)
INT = Integer(-(1 << 31), (1 << 31) - 1)
ULONG_EINVAL = Integer(0, None, einval_only=True)
U32_EINVAL = Integer(0, (1 << 32) - 1, einval_only=True)
INT_EINVAL = Integer(-(1 << 31), (1 << 31) - 1, einval_only=True)
ULONG_NONZERO = Integer(0, None, nonzero=True)
BOOL = Boolean()
PATH = Path()


def words(text: str, **since: str) -> Keyword:
    """Return a Keyword from "word word ...", with words added later as ``word="7.2"``."""
    pairs: list[tuple[str, Version]] = []
    for word in text.split():
        major, minor = since.get(word, "0.0").split(".")
        pairs.append((word, (int(major), int(minor))))
    return Keyword(tuple(pairs))

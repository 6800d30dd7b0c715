# SPDX-License-Identifier: GPL-2.0
"""YAML values with line numbers, so that every error names its line.

This uses PyYAML's node tree, because plain dicts have no line numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import yaml

from damon_tests.patterns.units import format_duration, format_size, parse_size
from damon_tests.ports import UsageError, page_size

MAX_DURATION_NS = 1 << 61

MAX_DIGITS = 40
"""More digits than any sensible number has; Python refuses to convert much longer numbers."""

_MAX_MESSAGE = 600

_BOOL = "tag:yaml.org,2002:bool"
_NULL = "tag:yaml.org,2002:null"
_TRUE = {"true", "yes", "on"}


def shortened(message: str) -> str:
    """Return the message, shortened in the middle if it quotes a long value."""
    half = _MAX_MESSAGE // 2
    return message if len(message) <= _MAX_MESSAGE else f"{message[:half]} ... {message[-half:]}"


class Value:
    """A value of a YAML file. All methods raise UsageError "file:line: what is wrong, what to do"."""

    def __init__(self, node: yaml.Node, path: str, what: str) -> None:
        self._node = node
        self._path = path
        self.what = what

    def error(self, message: str) -> UsageError:
        """Return the error to raise about this value."""
        line = self._node.start_mark.line + 1
        return UsageError(f"{self._path}:{line}: {self.what}: {shortened(message)}")

    def mapping(self, *known: str) -> dict[str, Value]:
        """Return its values by key. Raises for unknown and repeated keys."""
        node = self._node
        if not isinstance(node, yaml.MappingNode):
            raise self.error(f"expected keys and values ({', '.join(known)})")
        values: dict[str, Value] = {}
        for key_node, value_node in node.value:
            key = Value(key_node, self._path, self.what)
            name = key.text()
            if name not in known:
                raise key.error(f"unknown key {name!r}; the keys are {', '.join(known)}")
            if name in values:
                raise key.error(f"the key {name!r} is there twice; keep one")
            values[name] = Value(value_node, self._path, name)
        return values

    def required(self, values: dict[str, Value], name: str) -> Value:
        """Return ``values[name]``, of this mapping."""
        if name not in values:
            raise self.error(f"the key {name!r} is missing; add it")
        return values[name]

    def items(self) -> Iterator[Value]:
        """Yield the elements of a list."""
        if not isinstance(self._node, yaml.SequenceNode):
            raise self.error("expected a list (lines that start with '- ')")
        for index, node in enumerate(self._node.value):
            yield Value(node, self._path, f"{self.what}[{index}]")

    def text(self) -> str:
        """Return a scalar, as written."""
        if not isinstance(self._node, yaml.ScalarNode) or self._node.tag == _NULL:
            raise self.error("expected one value, found nothing or a list; write a value")
        return str(self._node.value)

    def boolean(self) -> bool:
        text = self.text()
        if self._node.tag != _BOOL:
            raise self.error(f"{text!r} is neither true nor false")
        return text.lower() in _TRUE

    def integer(self, minimum: int, maximum: int) -> int:
        """Return a plain decimal integer within [minimum, maximum]."""
        text = self.text()
        if not (text.isascii() and text.isdigit()):
            raise self.error(f"{text!r} is not a whole number")
        if len(text) > MAX_DIGITS or not minimum <= int(text) <= maximum:
            raise self.error(f"{text} is out of range; use {minimum} to {maximum}")
        return int(text)

    def decimal(self, minimum: float, maximum: float) -> float:
        """Return a number such as 0.99 within (minimum, maximum]."""
        text = self.text()
        try:
            number = float(text) if text[:1].isdigit() else math.nan
        except ValueError:
            number = math.nan
        if not minimum < number <= maximum:
            raise self.error(f"{text!r} is not a number above {minimum:g} and up to {maximum:g}")
        return number

    def choice(self, *allowed: str) -> str:
        text = self.text()
        if text not in allowed:
            raise self.error(f"{text!r} is not one of {', '.join(allowed)}")
        return text

    def quantity(self, parse: Callable[[str], int]) -> int:
        """Return a size, duration or rate, read by a function of ``damon_tests.patterns.units``."""
        try:
            return parse(self.text())
        except ValueError as error:
            raise self.error(str(error)) from None

    def period(self, parse: Callable[[str], int], minimum_ns: int = 1) -> int:
        """Return a duration or rate, in ns, within [minimum_ns, about a century]."""
        number = self.quantity(parse)
        if number < minimum_ns:
            least = "more than zero" if minimum_ns == 1 else f"at least {format_duration(minimum_ns)}"
            raise self.error(f"{self.text()!r} must be {least}")
        if number > MAX_DURATION_NS:
            raise self.error(f"{self.text()!r} is too large")
        return number

    def pages(self, maximum: int, minimum: int | None = None) -> int:
        """Return a size in bytes within [minimum, maximum] (default: from a page) that is a multiple of
        the page size."""
        size = self.quantity(parse_size)
        if size % page_size():
            raise self.error(f"{self.text()!r} is not a multiple of the page size, {page_size()} bytes")
        least = page_size() if minimum is None else minimum
        if not least <= size <= maximum:
            limits = f"{format_size(least)} to {format_size(maximum)}"
            raise self.error(f"{self.text()!r} is out of range; use {limits}")
        return size


def read(text: str, path: str) -> Value:
    """Return the top value of a YAML text. ``path`` is only for messages."""
    try:
        node = _top_node(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise UsageError(f"{path}:{line}: not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{path}:1: not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise UsageError(f"{path}:1: values within values, far too deep; a pattern has four levels") from None
    if node is None:
        raise UsageError(f"{path}:1: the file is empty; see workloads/patterns/README.md for the format")
    return Value(node, path, "pattern")


def _top_node(text: str) -> yaml.Node | None:
    loader: Any = yaml.SafeLoader(text)
    try:
        node: yaml.Node | None = loader.get_single_node()
        return node
    finally:
        loader.dispose()

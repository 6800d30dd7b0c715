# SPDX-License-Identifier: GPL-2.0
"""Checks of requests when they are made, so that a test author's mistake is an error at its line.

A request may still be one that DAMON refuses: that is what many tests are about. Refused here is only what
cannot be meant, such as a keyword that no kernel knows, or a value of the wrong type.
"""

from __future__ import annotations

from typing import Any

from damon_tests.damon.keywords import WORDS
from damon_tests.ports.errors import UsageError


def check_keyword(owner: object, field: str, kind: str) -> None:
    """Raise UsageError unless ``owner.field`` is one of the keywords of that kind (``keywords.WORDS``)."""
    value, known = getattr(owner, field), WORDS[kind]
    if value not in known:
        name = type(owner).__name__
        raise UsageError(f"{name}({field}={value!r}): the known values are {', '.join(known)}")


def check_members(owner: object, field: str, kind: type) -> None:
    """Raise UsageError unless ``owner.field`` is a sequence of values of that type; make it a tuple."""
    value: Any = getattr(owner, field)
    name = f"{type(owner).__name__}({field}=...)"
    if isinstance(value, kind) or not isinstance(value, tuple | list):
        raise UsageError(f"{name} takes a tuple of {kind.__name__}, not {type(value).__name__}")
    wrong = next((member for member in value if not isinstance(member, kind)), None)
    if wrong is not None:
        raise UsageError(f"{name} takes {kind.__name__}, not {wrong!r}")
    object.__setattr__(owner, field, tuple(value))


def check_type(owner: object, field: str, kind: type) -> None:
    """Raise UsageError unless ``owner.field`` has that type."""
    value = getattr(owner, field)
    if not isinstance(value, kind):
        name = f"{type(owner).__name__}({field}=...)"
        raise UsageError(f"{name} takes a {kind.__name__}, not {value!r}")

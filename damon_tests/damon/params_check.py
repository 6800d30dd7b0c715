# SPDX-License-Identifier: GPL-2.0
"""Check requests when they are made, so that a test author's mistake is an error at its line.

Many tests make requests that DAMON must refuse. So this refuses only what is a mistake in any test: a keyword
that no kernel knows, or a value of the wrong type.
"""

from __future__ import annotations

from typing import Any

from damon_tests.damon.keywords import WORDS
from damon_tests.ports.errors import UsageError


def check_keyword(owner: object, field: str, kind: str) -> None:
    """Raise UsageError unless ``owner.field`` is a keyword of this kind (``keywords.WORDS``)."""
    value, known = getattr(owner, field), WORDS[kind]
    if value not in known:
        name = type(owner).__name__
        raise UsageError(f"{name}({field}={value!r}): the known values are {', '.join(known)}")


def check_members(owner: object, field: str, kind: type) -> None:
    """Make ``owner.field`` a tuple. Raise UsageError unless it is a sequence of values of this type."""
    value: Any = getattr(owner, field)
    name = f"{type(owner).__name__}({field}=...)"
    if isinstance(value, kind) or not isinstance(value, tuple | list):
        raise UsageError(f"{name} takes a tuple of {kind.__name__}, not {type(value).__name__}")
    wrong = next((member for member in value if not isinstance(member, kind)), None)
    if wrong is not None:
        raise UsageError(f"{name} takes {kind.__name__}, not {wrong!r}")
    object.__setattr__(owner, field, tuple(value))


def check_type(owner: object, field: str, kind: type) -> None:
    """Raise UsageError unless ``owner.field`` has this type."""
    value = getattr(owner, field)
    if not isinstance(value, kind):
        name = f"{type(owner).__name__}({field}=...)"
        raise UsageError(f"{name} takes a {kind.__name__}, not {value!r}")

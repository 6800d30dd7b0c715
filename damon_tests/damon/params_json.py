# SPDX-License-Identifier: GPL-2.0
"""Requests as JSON values: the fields of ``damon.params`` under their names, tuples as lists.

The reader is lenient, so that it reads recordings of older and newer versions: a missing field has its
default, an unknown field is ignored.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from damon_tests.damon.params import DamonCtx
from damon_tests.ports.errors import UsageError


def ctx_to_json(ctx: DamonCtx) -> dict[str, Any]:
    """Return the request as a value for ``json.dumps``."""
    return asdict(ctx)


def ctx_from_json(value: Any) -> DamonCtx:
    """Return the request of a value from ``ctx_to_json``. Raises UsageError for values of another shape."""
    try:
        ctx: DamonCtx = from_json(DamonCtx, value)
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"not a DAMON request ({error})") from None
    return ctx


def from_json(kind: Any, value: Any) -> Any:
    """Convert ``value`` to ``kind``: a dataclass, a tuple, int, str or bool, or one of them or None.

    Raises TypeError or ValueError for a value of another shape.
    """
    if isinstance(kind, UnionType):
        (kind,) = (k for k in get_args(kind) if k is not NoneType)
        return None if value is None else from_json(kind, value)
    if hasattr(kind, "__dataclass_fields__"):
        if not isinstance(value, dict):
            raise TypeError(f"{value!r} where the fields of {kind.__name__} belong")
        hints = _hints(kind)
        known = {f.name: from_json(hints[f.name], value[f.name]) for f in fields(kind) if f.name in value}
        return kind(**known)
    if get_origin(kind) is tuple:
        of, *more = get_args(kind)
        if more == [Ellipsis]:
            return tuple(from_json(of, v) for v in value)
        return tuple(from_json(k, v) for k, v in zip((of, *more), value, strict=True))
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{value!r} where a value of type {kind.__name__} belongs")
    return value


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)

# SPDX-License-Identifier: GPL-2.0
"""Hypothesis strategies for requests that the tree of a level can hold."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from damon_tests.damon import layout
from damon_tests.damon.keywords import WORDS
from damon_tests.damon.params import U32_MAX, U64_MAX, Kdamond

_SMALL = {"nid", "target_nid", "pid_target", "damon_target_idx"}
_U32 = {"weight", "weight_sz_permil", "id", "refresh_ms", "fail_charge_num", "fail_charge_denom"}


def version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def _value(file: layout.File, level: str) -> st.SearchStrategy[Any]:
    if file.kind == "bool":
        return st.booleans()
    if file.kind == "path":
        return st.sampled_from(["", "/", "/a/b", "/with blank"])
    if file.kind == "word":
        return st.sampled_from(
            [w for w, since in WORDS[file.words].items() if version(since) <= version(level)]
        )
    if file.field in _SMALL:
        return st.integers(-1, 1 << 20)
    if file.field == "addr_unit":
        return st.integers(1, 1 << 32)
    return st.integers(0, U32_MAX if file.field in _U32 or file.field.startswith("weight") else U64_MAX)


def _node(node: layout.Node, level: str) -> st.SearchStrategy[Any]:
    fields: dict[str, st.SearchStrategy[Any]] = {}
    for file in node.files:
        if version(file.since) <= version(level):
            default = _default(node, file.field)
            fields[file.field] = st.one_of(st.just(default), _value(file, level))
    for sub in node.subs:
        if version(sub.since) <= version(level):
            fields[sub.field] = _node(sub.node, level)
    for many in node.lists:
        if version(many.since) <= version(level):
            elements = st.lists(_node(many.node, level), max_size=2).map(tuple)
            fields[many.field] = elements
    if node is layout.REGION:
        return st.builds(lambda start, end: (start, end), **fields)
    return st.builds(node.make, **fields)


def _default(node: layout.Node, field: str) -> Any:
    return getattr(node.make(), field)


def kdamonds(level: str) -> st.SearchStrategy[tuple[Kdamond, ...]]:
    """Return a strategy for one or two requests that a kernel of this series can hold."""
    return st.lists(_node(layout.KDAMOND, level), min_size=1, max_size=2).map(tuple)

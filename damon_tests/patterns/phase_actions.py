# SPDX-License-Identifier: GPL-2.0
"""Read the actions of a phase from YAML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from damon_tests.patterns.span import read_span
from damon_tests.patterns.spec import Action, Do, PatternRegion
from damon_tests.patterns.units import format_duration, parse_duration
from damon_tests.patterns.yaml_nodes import Value

MAX_CHILDREN = 64

_ON_SPANS = ("mmap", "munmap", "dontneed", "free", "mlock", "munlock", "willneed", "msync")
_RESIZES = ("mremap", "brk")
_PROCESS = ("fork", "exec")
_KEYS = ("do", "at", "region", "span", "size", "populate", "count", "lifetime", "exec")

_NOT_FOR = {
    "heap": ("mmap", "munmap", "mremap"),
    "hugetlb": (*_ON_SPANS, *_RESIZES),
}


def read_actions(value: Value, regions: Mapping[str, PatternRegion], duration_ns: int) -> tuple[Action, ...]:
    """Read the list under ``actions``; return it sorted by time. Raises UsageError."""
    actions = [_read_action(item, regions, duration_ns) for item in value.items()]
    return tuple(sorted(actions, key=lambda action: action.at_ns))


def _read_action(item: Value, regions: Mapping[str, PatternRegion], duration_ns: int) -> Action:
    keys = item.mapping(*_KEYS)
    do = cast(Do, item.required(keys, "do").choice(*_ON_SPANS, *_RESIZES, *_PROCESS))
    at_ns = _at(keys["at"], duration_ns) if "at" in keys else 0
    if do in _PROCESS:
        return _process(item, keys, do, at_ns)
    _only(keys, do, "region", "span" if do in _ON_SPANS else "size", *(["populate"] if do == "mmap" else []))
    name = item.required(keys, "region")
    if name.text() not in regions:
        raise name.error(f"unknown region {name.text()!r}; the regions are {', '.join(regions)}")
    region = regions[name.text()]
    _refuse_memory(keys["do"], do, region)
    if do in _RESIZES:
        # mremap() cannot grow an empty mapping again, and an empty heap has no mapping.
        return Action(do, at_ns, region.name, 0, item.required(keys, "size").pages(region.size_bytes))
    whole = (0, region.size_bytes)
    start, end = read_span(keys["span"], region, whole_pages=True) if "span" in keys else whole
    populate = keys["populate"].boolean() if "populate" in keys else False
    return Action(do, at_ns, region.name, start, end, populate=populate)


def _at(value: Value, duration_ns: int) -> int:
    at_ns = value.quantity(parse_duration)
    if at_ns >= duration_ns:
        raise value.error(f"is after the phase, which takes {format_duration(duration_ns)}")
    return at_ns


def _process(item: Value, keys: Mapping[str, Value], do: Do, at_ns: int) -> Action:
    if do == "exec":
        _only(keys, do)
        return Action(do, at_ns)
    _only(keys, do, "count", "lifetime", "exec")
    return Action(
        do,
        at_ns,
        children=keys["count"].integer(1, MAX_CHILDREN) if "count" in keys else 1,
        lifetime_ns=item.required(dict(keys), "lifetime").period(parse_duration),
        exec_children=keys["exec"].boolean() if "exec" in keys else False,
    )


def _only(keys: Mapping[str, Value], do: str, *allowed: str) -> None:
    for key, value in keys.items():
        if key not in ("do", "at", *allowed):
            raise value.error(f"is not for 'do: {do}'; that takes {', '.join(('at', *allowed))}")


def _refuse_memory(value: Value, do: str, region: PatternRegion) -> None:
    if do in _NOT_FOR.get(region.memory, ()) or (do == "brk" and region.memory != "heap"):
        raise value.error(f"cannot be done to region {region.name!r}, whose memory is {region.memory}")
    if do == "msync" and region.memory != "file":
        raise value.error(f"only a file is written back; the memory of {region.name!r} is {region.memory}")
    if do == "free" and region.memory not in ("anonymous", "heap"):
        raise value.error(f"MADV_FREE is for anonymous memory; that of {region.name!r} is {region.memory}")

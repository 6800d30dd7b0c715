# SPDX-License-Identifier: GPL-2.0
"""Read the access terms of a phase from YAML, and check them against the regions."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from damon_tests.patterns.pass_schedule import read_drift, read_pace
from damon_tests.patterns.span import read_span
from damon_tests.patterns.spec import SHARED, Access, Kind, Order, PatternRegion
from damon_tests.patterns.units import format_size, parse_size
from damon_tests.patterns.yaml_nodes import Value
from damon_tests.ports import page_size

# The generator draws slots from 32 bits.
MAX_SLOTS = (1 << 32) - 1
MAX_TOUCHES = 1 << 24
MAX_ISLANDS = 1 << 20
MAX_WEIGHT = 1 << 24
# The engine has little room for the workers' own memory beside its program.
MAX_WORKERS = 8
MAX_CHASE_SLOTS = 1 << 24
POINTER_BYTES = 8

_KEYS = (
    *("region", "span", "order", "stride", "period", "rate", "touches", "kind", "islands", "every"),
    *("skew", "center", "sigma", "weight", "drift", "drift_every", "positions", "process", "thread"),
)


def read_accesses(value: Value, regions: Mapping[str, PatternRegion]) -> tuple[Access, ...]:
    """Read the list under ``accesses``. Raises UsageError, also when two accesses overlap."""
    items = list(value.items())
    accesses = tuple(_read_access(item, regions) for item in items)
    _refuse_overlap(items, accesses)
    _refuse_unlike_turns(items, accesses)
    return accesses


def _refuse_overlap(items: list[Value], accesses: tuple[Access, ...]) -> None:
    """Refuse accesses of a process to the same memory, unless they take turns by weight."""
    spans = sorted(
        (access.region, access.process, start, end, index)
        for index, access in enumerate(accesses)
        for start, end in access.reach()
    )
    for (region, process, _, end, index), other in itertools.pairwise(spans):
        other_region, other_process, other_start, _, other_index = other
        turns = accesses[index].weight and accesses[other_index].weight
        if (region, process) == (other_region, other_process) and other_start < end and not turns:
            first, last = sorted((index, other_index))
            raise items[last].error(
                f"overlaps {items[first].what} at {format_size(other_start)} of region {region!r}; "
                "give each byte to one access, so that its rate is unambiguous"
            )


def _refuse_unlike_turns(items: list[Value], accesses: tuple[Access, ...]) -> None:
    chosen = [index for index, access in enumerate(accesses) if access.weight]
    for index in chosen[1:]:
        first, other = accesses[chosen[0]], accesses[index]
        alike = ("period_ns", "free_running", "worker")
        if any(getattr(first, name) != getattr(other, name) for name in alike):
            raise items[index].error(
                f"takes turns with {items[chosen[0]].what}, but has another rate, thread or process; "
                "accesses with a weight share one"
            )


def _read_access(item: Value, regions: Mapping[str, PatternRegion]) -> Access:
    keys = item.mapping(*_KEYS)
    name = item.required(keys, "region")
    if name.text() not in regions:
        raise name.error(f"unknown region {name.text()!r}; the regions are {', '.join(regions)}")
    region = regions[name.text()]
    start, end = read_span(keys["span"], region) if "span" in keys else (0, region.size_bytes)
    order = cast(Order, keys["order"].choice(*_ORDERS) if "order" in keys else "sequential")
    islands, every = _islands(item, keys, start, end, region)
    access = Access(
        region=region.name,
        start_bytes=start,
        end_bytes=end,
        order=order,
        stride_bytes=_stride(keys["stride"], end - start) if "stride" in keys else page_size(),
        touches=_touches(item, keys, order),
        islands=islands,
        every_bytes=every,
        weight=keys["weight"].integer(1, MAX_WEIGHT) if "weight" in keys else 0,
        process=keys["process"].integer(0, MAX_WORKERS - 1) if "process" in keys else 0,
        thread=keys["thread"].integer(0, MAX_WORKERS - 1) if "thread" in keys else 0,
    )
    if access.slots > MAX_SLOTS:
        raise item.error(f"has {access.slots} slots, more than {MAX_SLOTS}; use a larger stride")
    access = read_pace(keys, _hot_spot(item, keys, access))
    access = read_drift(keys, access, region)
    kind = _kind(keys["kind"], region, access) if "kind" in keys else _usual_kind(item, region, access)
    return replace(access, kind=kind)


_ORDERS = ("sequential", "random", "zipf", "gaussian", "chase")


def _stride(value: Value, length: int) -> int:
    stride = value.quantity(parse_size)
    if not 0 < stride <= length:
        raise value.error(
            f"{value.text()!r} is out of range; use 1 B to the length of the span, {format_size(length)}"
        )
    return stride


def _islands(
    item: Value, keys: Mapping[str, Value], start: int, end: int, region: PatternRegion
) -> tuple[int, int]:
    islands = keys["islands"].integer(1, MAX_ISLANDS) if "islands" in keys else 1
    if islands == 1:
        if "every" in keys:
            raise keys["every"].error("there is one island only; add 'islands', or remove 'every'")
        return 1, 0
    every = item.required(dict(keys), "every").pages(region.size_bytes, minimum=end - start)
    last = end + (islands - 1) * every
    if last > region.size_bytes:
        raise keys["islands"].error(
            f"the last island ends at {format_size(last)}, beyond region {region.name!r}, "
            f"which has {format_size(region.size_bytes)}"
        )
    return islands, every


def _touches(item: Value, keys: Mapping[str, Value], order: Order) -> int:
    if order == "sequential" and "touches" not in keys:
        return 0
    return item.required(dict(keys), "touches").integer(1, MAX_TOUCHES)


def _hot_spot(item: Value, keys: Mapping[str, Value], access: Access) -> Access:
    """Read the keys that only some orders have."""
    for key, order in (("skew", "zipf"), ("center", "gaussian"), ("sigma", "gaussian")):
        if key in keys and access.order != order:
            raise keys[key].error(f"is for 'order: {order}' only")
    if access.order == "zipf":
        skew = item.required(dict(keys), "skew")
        return replace(access, skew=skew.decimal(0, 10))
    if access.order == "gaussian":
        if access.islands > 1:
            raise keys["islands"].error("a gaussian hot spot has one place; remove 'islands' and 'every'")
        center = item.required(dict(keys), "center").quantity(parse_size)
        if not access.start_bytes <= center < access.end_bytes + (access.islands - 1) * access.every_bytes:
            raise keys["center"].error("is outside of the span; it counts from the start of the region")
        sigma = item.required(dict(keys), "sigma").quantity(parse_size)
        if sigma < access.stride_bytes:
            raise keys["sigma"].error(f"must be at least the stride, {format_size(access.stride_bytes)}")
        return replace(access, center_bytes=center, sigma_bytes=sigma)
    return access


def _kind(value: Value, region: PatternRegion, access: Access) -> Kind:
    kind = cast(Kind, value.choice("read", "write", "update"))
    if kind != "read" and access.order == "chase":
        raise value.error("a chase reads: the pointers that it follows must stay")
    if kind == "read":
        _refuse_unread(value, region, access)
    return kind


def _usual_kind(item: Value, region: PatternRegion, access: Access) -> Kind:
    if access.order != "chase":
        return "write"
    _refuse_unread(item, region, access)
    return "read"


def _refuse_unread(value: Value, region: PatternRegion, access: Access) -> None:
    """Refuse reads that DAMON cannot see, and chases without pointers."""
    if access.order == "chase":
        if not region.populate or region.mapped_bytes is not None or access.process:
            raise value.error(
                f"a chase needs 'populate: true' and no 'mapped' at region {region.name!r}, and is for "
                "process 0: its pointers are written before the target is ready"
            )
        if access.stride_bytes % POINTER_BYTES or access.slots > MAX_CHASE_SLOTS:
            raise value.error(f"a chase needs whole pointers as stride, and at most {MAX_CHASE_SLOTS} slots")
    if region.memory in SHARED:
        return
    if not region.populate or region.mapped_bytes is not None or access.process:
        # The kernel maps its zero page for such reads, and DAMON does not count that page.
        raise value.error(
            f"reads of region {region.name!r} need 'populate: true', all of it mapped, and process 0: memory "
            "that was never written is the kernel's zero page, which DAMON does not watch"
        )

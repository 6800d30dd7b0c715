# SPDX-License-Identifier: GPL-2.0
"""Read the access terms of a phase from YAML, and check them against the regions."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import cast

from damon_tests.patterns.nodes import Value
from damon_tests.patterns.spec import Access, Kind, Order, PatternRegion
from damon_tests.patterns.units import format_size, parse_duration, parse_rate, parse_size
from damon_tests.ports import PAGE_SIZE

# The generator draws slots from 32 bits.
MAX_SLOTS = (1 << 32) - 1
MAX_TOUCHES = 1 << 24
MAX_ISLANDS = 1 << 20

_SPAN = re.compile(r"(.+?)\s*\.\.\s*(.+)")
_KEYS = ("region", "span", "order", "stride", "period", "rate", "touches", "kind", "islands", "every")


def read_accesses(value: Value, regions: Mapping[str, PatternRegion]) -> tuple[Access, ...]:
    """The list under ``accesses``. Raises UsageError, also when two of them overlap."""
    items = list(value.items())
    accesses = tuple(_read_access(item, regions) for item in items)
    _refuse_overlap(items, accesses)
    return accesses


def _refuse_overlap(items: list[Value], accesses: tuple[Access, ...]) -> None:
    spans = sorted(
        (access.region, start, end, index)
        for index, access in enumerate(accesses)
        for start, end in access.spans()
    )
    for (region, _, end, index), (other_region, other_start, _, other_index) in itertools.pairwise(spans):
        if region == other_region and other_start < end:
            first, last = sorted((index, other_index))
            raise items[last].error(
                f"overlaps {items[first].what} at {format_size(other_start)} of region {region!r}; "
                "give each byte to one access, so that its rate is unambiguous"
            )


def _read_access(item: Value, regions: Mapping[str, PatternRegion]) -> Access:
    keys = item.mapping(*_KEYS)
    name = item.required(keys, "region")
    if name.text() not in regions:
        raise name.error(f"unknown region {name.text()!r}; the regions are {', '.join(regions)}")
    region = regions[name.text()]
    start, end = _span(keys["span"], region) if "span" in keys else (0, region.size_bytes)
    order = cast(Order, keys["order"].choice("sequential", "random") if "order" in keys else "sequential")
    islands, every = _islands(item, keys, start, end, region)
    access = Access(
        region=region.name,
        start_bytes=start,
        end_bytes=end,
        order=order,
        stride_bytes=_stride(keys["stride"], end - start) if "stride" in keys else Access.stride_bytes,
        period_ns=_period(item, keys),
        touches=_touches(item, keys, order),
        kind=_kind(keys["kind"], region) if "kind" in keys else "write",
        islands=islands,
        every_bytes=every,
    )
    if access.slots > MAX_SLOTS:
        raise item.error(f"has {access.slots} slots, more than {MAX_SLOTS}; use a larger stride")
    return access


def _span(value: Value, region: PatternRegion) -> tuple[int, int]:
    match = _SPAN.fullmatch(value.text().strip())
    if match is None:
        raise value.error(f"{value.text()!r} is not a span; write START .. END, such as '1 MiB .. 3 MiB'")
    try:
        start, end = parse_size(match[1]), parse_size(match[2])
    except ValueError as error:
        raise value.error(str(error)) from None
    if start % PAGE_SIZE or end % PAGE_SIZE:
        raise value.error(
            f"{value.text()!r}: both ends must be multiples of the page size, {PAGE_SIZE} bytes"
        )
    if start >= end:
        raise value.error(f"{value.text()!r} is empty; the end must be larger than the start")
    if end > region.size_bytes:
        size = format_size(region.size_bytes)
        raise value.error(f"{value.text()!r} ends beyond region {region.name!r}, which has {size}")
    return start, end


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


def _period(item: Value, keys: Mapping[str, Value]) -> int:
    if "period" in keys and "rate" in keys:
        raise keys["rate"].error("there is a 'period', too; keep one of them")
    if "rate" in keys:
        return keys["rate"].period(parse_rate)
    if "period" in keys:
        return keys["period"].period(parse_duration)
    return Access.period_ns


def _touches(item: Value, keys: Mapping[str, Value], order: Order) -> int:
    if order == "random":
        return item.required(dict(keys), "touches").integer(1, MAX_TOUCHES)
    if "touches" in keys:
        raise keys["touches"].error("is for 'order: random' only; a sequential pass touches every slot")
    return 0


def _kind(value: Value, region: PatternRegion) -> Kind:
    kind = cast(Kind, value.choice("read", "write"))
    if kind == "read" and not region.populate:
        # The kernel maps its zero page for such reads, and DAMON does not count that page.
        raise value.error(
            f"reads of region {region.name!r} need 'populate: true': memory that was never "
            "written is the kernel's zero page, which DAMON does not watch"
        )
    return kind

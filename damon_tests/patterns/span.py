# SPDX-License-Identifier: GPL-2.0
"""Read a part of a region from YAML: "1 MiB .. 3 MiB"."""

from __future__ import annotations

import re

from damon_tests.patterns.spec import PatternRegion
from damon_tests.patterns.units import format_size, parse_size
from damon_tests.patterns.yaml_nodes import Value
from damon_tests.ports import page_size

_SPAN = re.compile(r"(.+?)\s*\.\.\s*(.+)")


def read_span(value: Value, region: PatternRegion, *, whole_pages: bool = False) -> tuple[int, int]:
    """Return bytes [start, end) of the region; the start is page aligned, with ``whole_pages`` also the end.

    Raises UsageError.
    """
    match = _SPAN.fullmatch(value.text().strip())
    if match is None:
        raise value.error(f"{value.text()!r} is not a span; write START .. END, such as '1 MiB .. 3 MiB'")
    try:
        start, end = parse_size(match[1]), parse_size(match[2])
    except ValueError as error:
        raise value.error(str(error)) from None
    if start % page_size() or (whole_pages and end % page_size()):
        which = "both ends must be multiples" if whole_pages else "the start must be one of the multiples"
        raise value.error(f"{value.text()!r}: {which} of the page size, {page_size()} bytes")
    if start >= end:
        raise value.error(f"{value.text()!r} is empty; the end must be larger than the start")
    if end > region.size_bytes:
        size = format_size(region.size_bytes)
        raise value.error(f"{value.text()!r} ends beyond region {region.name!r}, which has {size}")
    return start, end

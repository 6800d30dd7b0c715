# SPDX-License-Identifier: GPL-2.0
"""Write a pattern as YAML that ``damon_tests.patterns.load`` reads back unchanged."""

from __future__ import annotations

import yaml

from damon_tests.patterns.spec import Access, Pattern, PatternRegion, Phase
from damon_tests.patterns.units import format_duration, format_size

_HUGEPAGE = {False: "no", True: "yes", None: "default"}


def dump(pattern: Pattern) -> str:
    """The pattern as text, every key written out."""
    lines = [
        f"name: {_quoted(pattern.name)}",
        f"reason: {_quoted(pattern.reason)}",
        f"repeat: {_boolean(pattern.repeat)}",
        f"gap: {format_size(pattern.gap_bytes)}",
        f"visible: {pattern.visible}",
        "regions:",
    ]
    for region in pattern.regions:
        lines += _item(_region(region), indent=2)
    lines.append("phases:")
    for phase in pattern.phases:
        lines += _phase(phase)
    return "\n".join(lines) + "\n"


def _region(region: PatternRegion) -> list[str]:
    return [
        f"name: {_quoted(region.name)}",
        f"size: {format_size(region.size_bytes)}",
        f"populate: {_boolean(region.populate)}",
        f"hugepage: {_HUGEPAGE[region.hugepage]}",
    ]


def _phase(phase: Phase) -> list[str]:
    keys = [f"name: {_quoted(phase.name)}", f"duration: {format_duration(phase.duration_ns)}"]
    if not phase.accesses:
        return _item([*keys, "accesses: []"], indent=2)
    lines = _item([*keys, "accesses:"], indent=2)
    for access in phase.accesses:
        lines += _item(_access(access), indent=6)
    return lines


def _access(access: Access) -> list[str]:
    lines = [
        f"region: {_quoted(access.region)}",
        f"span: {format_size(access.start_bytes)} .. {format_size(access.end_bytes)}",
        f"order: {access.order}",
        f"stride: {format_size(access.stride_bytes)}",
        f"period: {format_duration(access.period_ns)}",
        f"kind: {access.kind}",
    ]
    if access.order == "random":
        lines.append(f"touches: {access.touches}")
    if access.islands > 1:
        lines += [f"islands: {access.islands}", f"every: {format_size(access.every_bytes)}"]
    return lines


def _item(keys: list[str], indent: int) -> list[str]:
    """One element of a list: a dash before the first key."""
    margin = " " * indent
    return [f"{margin}{'- ' if index == 0 else '  '}{key}" for index, key in enumerate(keys)]


def _boolean(value: bool) -> str:
    return "true" if value else "false"


def _quoted(text: str) -> str:
    # Quotes keep names such as "no" or "1e3" text; the width keeps a long reason on one line.
    return yaml.safe_dump(text, default_style='"', allow_unicode=True, width=1_000_000).strip()

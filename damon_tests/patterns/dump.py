# SPDX-License-Identifier: GPL-2.0
"""Write a pattern as YAML that ``damon_tests.patterns.load`` reads back unchanged."""

from __future__ import annotations

import yaml

from damon_tests.patterns.spec import Access, Action, Pattern, PatternRegion, Phase
from damon_tests.patterns.units import format_duration, format_size

_HUGEPAGE = {False: "no", True: "yes", None: "default"}


def dump(pattern: Pattern) -> str:
    """Return the pattern as text with every key."""
    lines = [
        f"name: {_quoted(pattern.name)}",
        f"reason: {_quoted(pattern.reason)}",
        f"repeat: {_boolean(pattern.repeat)}",
        f"gap: {format_size(pattern.gap_bytes)}",
        f"visible: {pattern.visible}",
        *([f"memcg: {_quoted(pattern.memcg)}"] if pattern.memcg else []),
        "regions:",
    ]
    for region in pattern.regions:
        lines += _item(_region(region), indent=2)
    lines.append("phases:")
    for phase in pattern.phases:
        lines += _phase(phase)
    return "\n".join(lines) + "\n"


def _region(region: PatternRegion) -> list[str]:
    lines = [
        f"name: {_quoted(region.name)}",
        f"size: {format_size(region.size_bytes)}",
        f"populate: {_boolean(region.populate)}",
    ]
    if region.memory in ("hugetlb", "heap"):
        lines.append(f"memory: {region.memory}")
    else:
        lines += [f"hugepage: {_HUGEPAGE[region.hugepage]}", f"memory: {region.memory}"]
    if region.file:
        lines.append(f"file: {_quoted(region.file)}")
    if region.lock:
        lines.append("lock: true")
    if region.node is not None:
        lines.append(f"node: {region.node}")
    if region.mapped_bytes is not None:
        lines.append(f"mapped: {format_size(region.mapped_bytes)}")
    if region.gap_bytes is not None:
        lines.append(f"gap: {format_size(region.gap_bytes)}")
    if region.same_as:
        lines.append(f"same_as: {_quoted(region.same_as)}")
    return lines


def _phase(phase: Phase) -> list[str]:
    keys = [f"name: {_quoted(phase.name)}", f"duration: {format_duration(phase.duration_ns)}"]
    if phase.accesses:
        lines = _item([*keys, "accesses:"], indent=2)
        for access in phase.accesses:
            lines += _item(_access(access), indent=6)
    else:
        lines = _item([*keys, "accesses: []"], indent=2)
    if phase.actions:
        lines.append("    actions:")
        for action in phase.actions:
            lines += _item(_action(action), indent=6)
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
    if access.free_running:
        lines.append("rate: max")
    if access.touches:
        lines.append(f"touches: {access.touches}")
    if access.islands > 1:
        lines += [f"islands: {access.islands}", f"every: {format_size(access.every_bytes)}"]
    if access.order == "zipf":
        lines.append(f"skew: {access.skew!r}")
    if access.order == "gaussian":
        lines += [f"center: {format_size(access.center_bytes)}", f"sigma: {format_size(access.sigma_bytes)}"]
    if access.drift_bytes:
        every = format_duration(access.drift_passes * access.period_ns)
        lines += [f"drift: {format_size(access.drift_bytes)}", f"drift_every: {every}"]
        lines.append(f"positions: {access.drift_positions}")
    for name in ("weight", "process", "thread"):
        if getattr(access, name):
            lines.append(f"{name}: {getattr(access, name)}")
    return lines


def _action(action: Action) -> list[str]:
    lines = [f"do: {action.do}", f"at: {format_duration(action.at_ns)}"]
    if action.do == "fork":
        lines += [f"count: {action.children}", f"lifetime: {format_duration(action.lifetime_ns)}"]
        lines.append(f"exec: {_boolean(action.exec_children)}")
    elif action.do != "exec":
        lines.append(f"region: {_quoted(action.region)}")
        if action.do in ("mremap", "brk"):
            lines.append(f"size: {format_size(action.end_bytes)}")
        else:
            span = f"{format_size(action.start_bytes)} .. {format_size(action.end_bytes)}"
            lines.append(f"span: {span}")
    if action.do == "mmap":
        lines.append(f"populate: {_boolean(action.populate)}")
    return lines


def _item(keys: list[str], indent: int) -> list[str]:
    """Return the lines of a list element: a dash before the first key."""
    margin = " " * indent
    return [f"{margin}{'- ' if index == 0 else '  '}{key}" for index, key in enumerate(keys)]


def _boolean(value: bool) -> str:
    return "true" if value else "false"


def _quoted(text: str) -> str:
    # Quotes keep names such as "no" or "1e3" as text; the width keeps a long reason on one line.
    return yaml.safe_dump(text, default_style='"', allow_unicode=True, width=1_000_000).strip()

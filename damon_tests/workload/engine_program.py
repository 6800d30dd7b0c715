# SPDX-License-Identifier: GPL-2.0
"""Write the program that the engine reads (``workloads/src/engine_program.c``).

It is text: a statement per line, numbers in decimal, sizes in bytes, times in ns; it begins with the version
and ends with "end".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from damon_tests.patterns.spec import Access, Action, Pattern, PatternRegion
from damon_tests.ports import UsageError
from damon_tests.workload.weighted_order import buckets_of

VERSION = "damon-tests-engine 2"

# A pass every millisecond for an hour: 115 MB, allocated as the log grows.
MAX_PASSES = 3_600_000
# The engine stops to write slices when their file is this large (in a guest it takes guest memory).
MAX_SLICES_BYTES = 64 << 20

_HUGEPAGE = {False: "no", True: "yes", None: "default"}
_ORDERS = {"zipf": "weighted", "gaussian": "weighted"}
_ANY_NODE = 64


@dataclass(frozen=True)
class Files:
    """The paths of the files that an engine publishes."""

    directory: str

    @property
    def status(self) -> str:
        return f"{self.directory}/status"

    @property
    def phases(self) -> str:
        return f"{self.directory}/phases"

    @property
    def passes(self) -> str:
        return f"{self.directory}/passes"

    @property
    def slices(self) -> str:
        return f"{self.directory}/slices"


def write_program(
    pattern: Pattern, seed: int, files: Files, slices_ns: int | None, *, pass_log: bool = True
) -> bytes:
    """Return the program for a pattern. Raises UsageError for a directory that a line cannot hold."""
    if "\n" in files.directory or len(files.directory) > 4000:
        raise UsageError(f"{files.directory!r} cannot be the engine's directory: use a shorter, plain path")
    lines = [
        VERSION,
        f"seed {seed & (1 << 64) - 1}",
        f"repeat {int(pattern.repeat)}",
        f"gap {pattern.gap_bytes}",
        f"visible {pattern.visible}",
        f"status {files.status}",
        f"phases {files.phases}",
    ]
    if pass_log:
        lines.append(f"passes {MAX_PASSES} {files.passes}")
    if slices_ns is not None:
        lines.append(f"slices {slices_ns} {MAX_SLICES_BYTES} {files.slices}")
    if pattern.memcg:
        lines.append(f"memcg {pattern.memcg}")
    numbers = {region.name: number for number, region in enumerate(pattern.regions)}
    lines += [line for region in pattern.regions for line in _region(region, numbers)]
    for phase in pattern.phases:
        lines.append(f"phase {phase.name} {phase.duration_ns}")
        for access in phase.accesses:
            lines.append(_access(access, numbers[access.region]))
            if access.order in _ORDERS:
                lines += _buckets(access)
        lines += [_action(action, numbers.get(action.region, 0)) for action in phase.actions]
    return "\n".join([*lines, "end", ""]).encode()


def _region(region: PatternRegion, numbers: Mapping[str, int]) -> Iterator[str]:
    words = (
        region.name,
        region.size_bytes,
        int(region.populate),
        _HUGEPAGE[region.hugepage],
        region.memory,
        int(region.lock),
        _ANY_NODE if region.node is None else region.node,
        region.initially_mapped,
        region.file or "-",
    )
    yield "region " + " ".join(str(word) for word in words)
    if region.gap_bytes is not None:
        yield f"region_gap {region.gap_bytes}"
    if region.same_as:
        yield f"region_same_as {numbers[region.same_as]}"


def _buckets(access: Access) -> list[str]:
    buckets = buckets_of(access)
    pairs = zip(buckets.ends.tolist(), buckets.cumulative.tolist(), strict=True)
    return [f"bucket {end} {cumulative}" for end, cumulative in pairs]


def _action(action: Action, region: int) -> str:
    words = (
        action.do,
        action.at_ns,
        region,
        action.start_bytes,
        action.end_bytes,
        int(action.populate),
        action.children,
        action.lifetime_ns,
        int(action.exec_children),
    )
    return "action " + " ".join(str(word) for word in words)


def _access(access: Access, region: int) -> str:
    words = (
        region,
        access.start_bytes,
        access.end_bytes,
        _ORDERS.get(access.order, access.order),
        access.stride_bytes,
        access.period_ns,
        access.touches,
        access.kind,
        access.islands,
        access.every_bytes,
        int(access.free_running),
        access.weight,
        access.drift_bytes,
        access.drift_passes,
        access.drift_positions,
        access.process,
        access.thread,
    )
    return "access " + " ".join(str(word) for word in words)

# SPDX-License-Identifier: GPL-2.0
"""A benchmark run on disk: raw samples and provenance as JSON, call trees as folded text beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from damon_tests.judge.cost.samples import CostSamples
from damon_tests.ports import HarnessError, UsageError
from damon_tests.ports.cost import CallPath, CallTree, merged

BENCH = "bench.json"
SCHEMA = 1
_TREES = "trees"


@dataclass
class BenchRecord:
    """``metrics`` by name; ``done``: benchmarks that were taken; ``skipped``: others, and why."""

    provenance: dict[str, object] = field(default_factory=dict)
    metrics: dict[str, CostSamples] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def kernel(self) -> str:
        return str(self.provenance.get("kernel", "unknown"))


def save(record: BenchRecord, directory: Path) -> None:
    """Write it, so that it is whole at any time. Raises HarnessError when the disk does not take it."""
    content = {
        "schema": SCHEMA,
        "provenance": record.provenance,
        "done": record.done,
        "skipped": record.skipped,
        "metrics": {m.metric: {"unit": m.unit, "values": list(m.values)} for m in record.metrics.values()},
    }
    try:
        (directory / _TREES).mkdir(parents=True, exist_ok=True)
        for m in record.metrics.values():
            if m.tree is not None:
                (directory / _TREES / f"{m.metric}.folded").write_text(m.tree.folded())
        partial = directory / f"{BENCH}.partial"
        partial.write_text(json.dumps(content, indent=1, default=str) + "\n")
        partial.replace(directory / BENCH)
    except OSError as error:
        raise HarnessError(
            f"{directory} cannot be written ({error.strerror}); samples so far are in it"
        ) from error


def load(directory: Path) -> BenchRecord:
    """Read it back. Raises UsageError, with the reason, for what is no benchmark run."""
    path = directory / BENCH
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{directory} is no benchmark run: it has no {BENCH}") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{path} is no JSON: {error}") from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        schema = content.get("schema") if isinstance(content, dict) else None
        raise UsageError(
            f"{path} has schema {schema!r}; this version reads {SCHEMA}: take the benchmark again"
        )
    try:
        return _record(content, directory)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{path} is damaged: {error!r}; take the benchmark again") from None


def _record(content: Mapping[str, Any], directory: Path) -> BenchRecord:
    metrics = {
        name: CostSamples(name, str(m["unit"]), tuple(map(float, m["values"])), _tree(directory, name))
        for name, m in content["metrics"].items()
    }
    return BenchRecord(
        dict(content["provenance"]), metrics, list(content["done"]), dict(content.get("skipped", {}))
    )


def _tree(directory: Path, metric: str) -> CallTree | None:
    path = directory / _TREES / f"{metric}.folded"
    return parse_folded(path.read_text()) if path.exists() else None


def parse_folded(text: str) -> CallTree:
    """A tree from folded text; calls are not in it. Raises ValueError."""
    paths = []
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        paths.append(CallPath(tuple(stack.split(";")), 0, int(count)))
    return merged(paths)

# SPDX-License-Identifier: GPL-2.0
"""How accurate DAMON is on real programs: rows of figures, of kernels and of the reference."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from damon_tests.damon.params import DamonAttrs, DamonIntervalsGoal
from damon_tests.experiment.experiment import derive_seed
from damon_tests.experiment.observation import Observation
from damon_tests.experiment.truth_replay import replay
from damon_tests.judge.monitoring.aggregation_windows import windows, within
from damon_tests.judge.monitoring.report_vs_truth import compare
from damon_tests.judge.monitoring.tradeoff import SETTLED_SHARE, Hot, judge_attempt
from damon_tests.judge.monitoring.true_ages import age_error
from damon_tests.ports import NSEC_PER_SEC
from damon_tests.ports.cost import Cost
from damon_tests.workload.truth_file import SavedTruth

SETTINGS: Mapping[str, DamonAttrs] = {
    "defaults": DamonAttrs(),
    "intervals_goal": DamonAttrs(intervals_goal=DamonIntervalsGoal(400, 3, 5_000, 100_000)),
    "more regions": DamonAttrs(min_nr_regions=500, max_nr_regions=5000),
    "finer sampling": DamonAttrs(sample_us=1000, aggr_us=100_000),
}
"""The columns of the accuracy table. The goal is the one of DAMON's documentation: 4 % of access events."""

FIGURES = ("precision", "recall", "working_set_error", "total", "age_error", "million_instructions_per_s")


@dataclass(frozen=True)
class Row:
    """One recording. ``source``: "kernel" or "reference". ``figures``: by the names of FIGURES; ``total``:
    the sum of size times access rate that DAMON reports, relative to the true one."""

    program: str
    operations: str
    setting: str
    source: str
    series: str
    seed: int
    figures: Mapping[str, float]


def figures(observed: Observation, cost: Cost | None = None) -> dict[str, float]:
    """Return the figures of a recording, after its first quarter. Raises UsageError if it is too short."""
    recording = observed.recording
    judged = judge_attempt(observed, Hot())
    length_ns = recording.stopped_ns - recording.started_ns
    settled = within(windows(recording), recording.started_ns + int(length_ns * SETTLED_SHARE))
    compared = compare(recording, settled, observed.truth)
    true = float(np.sum(compared.size * compared.true))
    accuracy = {
        "precision": judged.precision,
        "recall": judged.recall,
        "working_set_error": judged.working_set_error,
        "total": float(np.sum(compared.size * compared.seen)) / true if true else 1.0,
        "age_error": age_error(recording, observed.truth, chosen=settled).value,
    }
    if cost is not None:
        accuracy["million_instructions_per_s"] = cost.used / (cost.window_ns / NSEC_PER_SEC) / 1e6
    return accuracy


def of_reference(saved: SavedTruth, setting: str, level: str, runs: int) -> Iterator[Row]:
    """Yield the figures of ``runs`` runs of the reference over a saved truth."""
    seeds = [derive_seed(saved.seed, f"{saved.title} {setting}", n, "replica") for n in range(runs)]
    operations = "paddr" if saved.space == "physical" else "vaddr"
    for seed, observed in zip(seeds, replay(saved, SETTINGS[setting], level, seeds), strict=True):
        yield Row(saved.title, operations, setting, "reference", level, seed, figures(observed))


def append(path: Path, row: Row) -> None:
    """Append a row to a file of JSON lines."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(row)) + "\n")


def read(path: Path) -> list[Row]:
    """Return the rows of a file of JSON lines."""
    return [Row(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def table(rows: Sequence[Row]) -> str:
    """Return a Markdown table: medians, with the smallest and the largest where there are several runs."""
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.program, row.operations, row.setting, row.source, row.series].append(row)
    titles = ("program", "operations", "setting", "DAMON", "runs", "precision", "recall", "WSS error")
    lines = ["| " + " | ".join([*titles, "total", "age error", "M instr./s"]) + " |"]
    lines.append("|---" * 4 + "|--:" * 7 + "|")
    order = list(SETTINGS)
    for key in sorted(groups, key=lambda k: (k[0], k[1] != "vaddr", order.index(k[2]), *k[3:])):
        program, operations, setting, source, series = key
        cells = [_cell([row.figures[n] for row in groups[key] if n in row.figures]) for n in FIGURES]
        words = [program, operations, setting, f"{source} {series}", str(len(groups[key]))]
        lines.append("| " + " | ".join([*words, *cells]) + " |")
    return "\n".join(lines) + "\n"


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "–"
    median = f"{np.median(values):.2f}"
    return median if len(values) == 1 else f"{median} ({min(values):.2f}–{max(values):.2f})"

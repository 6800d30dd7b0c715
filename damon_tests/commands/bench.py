# SPDX-License-Identifier: GPL-2.0
"""``damon-tests bench``: what DAMON costs on a kernel, taken and kept; and tables of what was kept."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from damon_tests import __version__, bundle
from damon_tests.experiment.backend import Backend
from damon_tests.experiment.kernel_request import KernelRequest
from damon_tests.experiment.open_backend import open_backend
from damon_tests.kernel.guest.topology import Topology
from damon_tests.ports import NotSupported, UsageError
from damon_tests.ports.narration import narrated, on_stderr
from damon_tests.report import bench_history, bench_record, run_directory
from damon_tests.report.bench_record import BenchRecord
from damon_tests.scenario.cost_catalogue import BENCHMARKS, BY_NAME, Benchmark

PROTOCOL = 2
"""Changes with what benchmarks do: other numbers then mean something else, and are not compared."""


def run(
    kernel: str, names: Sequence[str], output: Path | None, seed: int, history: Path | None = None
) -> int:
    """Take the benchmarks of these names (all without any) on a kernel, and print them."""
    directory = take(kernel, names, output, seed)
    record = bench_record.load(directory)
    print(text(record))
    print(f"kept in {directory}")
    if history is not None:
        print(f"run {bench_history.add(history, record)} of {history}")
    return 0 if record.metrics else NotSupported.exit_code


def take(kernel: str, names: Sequence[str], output: Path | None, seed: int) -> Path:
    """Take benchmarks into a directory, and return it. What is there already is not taken again.

    Raises UsageError for unknown names and for the reference, whose cost says nothing about a kernel.
    """
    benchmarks = chosen(names)
    request = KernelRequest(kernel)
    if request.is_reference or request.is_host:
        raise UsageError(f"{kernel}: only kernels in guests are benchmarked; use debian:SERIES or an image")
    request.check()
    directory = output or run_directory.new_directory()
    run_directory.check(directory)
    record = _begun(directory, kernel)
    with narrated(on_stderr), open_backend(request, directory) as backend:
        backend.capabilities()
        record.provenance |= _provenance(backend, kernel, seed)
        for benchmark in benchmarks:
            if benchmark.name not in record.done:
                _take_one(benchmark, backend, seed, record)
                bench_record.save(record, directory)
    return directory


def chosen(names: Sequence[str]) -> list[Benchmark]:
    """Return the benchmarks of these names, all without any. Raises UsageError for unknown names."""
    unknown = [name for name in names if name not in BY_NAME]
    if unknown:
        raise UsageError(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(BY_NAME)}")
    return [BY_NAME[name] for name in dict.fromkeys(names)] or list(BENCHMARKS)


def _begun(directory: Path, kernel: str) -> BenchRecord:
    """What an interrupted run left in its directory, or a new record."""
    if not (directory / bench_record.BENCH).exists():
        return BenchRecord()
    record = bench_record.load(directory)
    if record.provenance.get("asked_for") != kernel:
        raise UsageError(
            f"{directory} has a benchmark of {record.provenance.get('asked_for')}, not of {kernel}"
        )
    if record.provenance.get("bench") != PROTOCOL:
        raise UsageError(
            f"{directory} has a benchmark that another version of damon-tests took, with other numbers;"
            " take it again in another directory"
        )
    return record


def _take_one(benchmark: Benchmark, backend: Backend, seed: int, record: BenchRecord) -> None:
    print(f"{benchmark.name}: {benchmark.about} ...", file=sys.stderr, flush=True)
    try:
        for samples in benchmark.run(backend, seed):
            record.metrics[samples.metric] = samples
    except NotSupported as error:
        record.skipped[benchmark.name] = str(error)
        return
    record.skipped.pop(benchmark.name, None)
    record.done.append(benchmark.name)


# --- provenance ----------------------------------------------------------------------------------


def _provenance(backend: Backend, kernel: str, seed: int) -> dict[str, object]:
    subject = backend.subject(seed, Topology(instructions=True))
    try:
        version = subject.kernel_file("/proc/version").strip()
    finally:
        subject.close()
    return {
        **backend.provenance(),
        "asked_for": kernel,
        "series": backend.level,
        "linux_version": version,
        "architecture": platform.machine(),
        "bench": PROTOCOL,
        "damon_tests": __version__,
        "commit": bundle.commit(),
        "seed": seed,
    }


# --- text ----------------------------------------------------------------------------------------


def text(record: BenchRecord) -> str:
    """One line a metric: median, spread of its samples, unit."""
    lines = [f"{record.kernel}:"]
    for m in record.metrics.values():
        spread = (max(m.values) - min(m.values)) / m.median if m.median else 0.0
        lines.append(
            f"  {m.metric:<40} {m.median:12.1f} {m.unit}  (±{spread / 2:.2%}, {len(m.values)} samples)"
        )
    lines += [f"  {name}: not measured: {why}" for name, why in record.skipped.items()]
    return "\n".join(lines)


def show(directories: Sequence[Path]) -> int:
    """Print finished benchmark runs as one Markdown table: metrics down, kernels across."""
    print(table([bench_record.load(directory) for directory in directories]))
    return 0


def table(records: Sequence[BenchRecord]) -> str:
    """Return a table of medians by metric and kernel; a metric that a kernel has no value of is "–"."""
    names = list(dict.fromkeys(name for record in records for name in record.metrics))
    titles = [str(record.provenance.get("series") or record.kernel) for record in records]
    lines = ["| metric | unit | " + " | ".join(titles) + " |", "|---|---|" + "--:|" * len(records)]
    for name in names:
        unit = next(r.metrics[name].unit for r in records if name in r.metrics)
        cells = [_cell(record, name) for record in records]
        lines.append(f"| `{name}` | {unit} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(record: BenchRecord, name: str) -> str:
    if name not in record.metrics:
        return "–"
    median = record.metrics[name].median
    return f"{median:,.0f}" if median >= 100 else f"{median:.1f}"

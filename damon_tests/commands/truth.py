# SPDX-License-Identifier: GPL-2.0
"""``damon-tests truth``: what a real program really accesses, and what DAMON reports of it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from damon_tests.damon import damo_format, recording_file
from damon_tests.damon.params import DamonAttrs, DamonCtx, DamonIntervalsGoal
from damon_tests.damon.recording_file import About, Saved
from damon_tests.experiment.kernel_request import KernelRequest
from damon_tests.experiment.observation import Observation
from damon_tests.experiment.open_backend import open_backend
from damon_tests.experiment.program_run import ProgramRun, run_program
from damon_tests.experiment.replica import replicas
from damon_tests.judge.monitoring.aggregation_windows import windows
from damon_tests.judge.monitoring.all_invariants import of_attempt
from damon_tests.judge.monitoring.band_metrics import METRICS, values
from damon_tests.judge.monitoring.perfect_report import perfect_report
from damon_tests.judge.monitoring.tradeoff import SETTLED_SHARE, Hot
from damon_tests.judge.monitoring.true_rates import spans_of
from damon_tests.judge.verdict import decide
from damon_tests.ports import NSEC_PER_SEC, NotSupported, UsageError, output_file, page_size
from damon_tests.ports.narration import narrated, on_stderr
from damon_tests.report import draw, run_directory, terminal, wording
from damon_tests.scenario.exploration import GOAL_AGGRS, MIN_NR_REGIONS
from damon_tests.workload import program_spec, truth_file
from damon_tests.workload.program_spec import Program
from damon_tests.workload.truth_file import SavedTruth

SAVED_GAP_NS = 4_000_000
"""Saved truths are exact for times of at least this: shorter than DAMON's default sampling interval."""

REPLICAS = 20
"""Runs of the reference that a figure is printed beside: enough to see how far correct DAMONs differ."""
FIGURES = ("precision", "recall", "working set", "rate bias", "rate error", "age error", "regions")
MOST_TUNED_SAMPLES = 20
"""The tuner may make the intervals as many times longer: aggregations of 2 s at the defaults."""

_TRUTH = "truth.npz"
_TEXT_WIDTH = 110


@dataclass(frozen=True)
class TruthRequest:
    """``program`` names one of the library, else ``command`` is run, with these Debian ``packages``.

    ``output``: None for a new directory. Times in seconds, None for the program's own.
    """

    kernel: str
    program: str | None
    command: tuple[str, ...]
    packages: tuple[str, ...]
    operations: str
    attrs: DamonAttrs
    warm_s: float | None
    seconds: float | None
    seed: int
    output: Path | None
    overwrite: bool


def attrs_of(sample_ms: float, aggr_ms: float, regions: int, goal_bp: int | None) -> DamonAttrs:
    """Return the monitoring attributes that the options ask for. Raises UsageError for impossible ones.

    ``goal_bp``: access events to tune the intervals for, 0.01 %; the sampling interval then grows from
    ``sample_ms`` to at most MOST_TUNED_SAMPLES times as much.
    """
    sample_us, aggr_us = round(sample_ms * 1000), round(aggr_ms * 1000)
    if sample_us < 1:
        raise UsageError(f"--sample-ms {sample_ms:g}: give 0.001 or more")
    if aggr_us < sample_us:
        raise UsageError(
            f"--aggr-ms {aggr_ms:g} is shorter than --sample-ms {sample_ms:g}: an aggregation takes one"
            " sampling interval or more"
        )
    if regions < MIN_NR_REGIONS:
        raise UsageError(f"--regions {regions}: give {MIN_NR_REGIONS} or more, which is min_nr_regions")
    goal = DamonIntervalsGoal()
    if goal_bp is not None:
        goal = DamonIntervalsGoal(goal_bp, GOAL_AGGRS, sample_us, MOST_TUNED_SAMPLES * sample_us)
    return DamonAttrs(sample_us, aggr_us, max_nr_regions=regions, intervals_goal=goal)


def list_programs() -> int:
    """Print the programs of the library."""
    for name in program_spec.names():
        print(f"{name:<12}{program_spec.load(name).reason}")
    return 0


def run(request: TruthRequest) -> int:
    """Watch the program, print figures and verdict, and write all files. Return the verdict's exit code."""
    program = _program(request)
    kernel = KernelRequest(request.kernel)
    if kernel.is_reference or kernel.is_host:
        raise UsageError(f"{request.kernel}: accesses are recorded in guests only; use debian:SERIES")
    kernel.check()
    directory = _directory(request)
    ctx = DamonCtx(request.operations, attrs=request.attrs)
    watch_ns = None if request.seconds is None else int(request.seconds * NSEC_PER_SEC)
    with narrated(on_stderr), open_backend(kernel, directory) as backend:
        backend.capabilities()
        made = run_program(backend, program, ctx, request.seed, watch_ns=watch_ns, cost=True)
        release = str(backend.provenance().get("release", ""))
    observed = made.observation()
    for line in summary(made):
        print(line)
    for line in figures(observed):
        print(line)
    checks = of_attempt(made.certain())
    for check in checks:
        if check.holds is not True:
            for line in terminal.check(asdict(check)):
                print(line)
    verdict, reason = decide(checks)
    print(f"{verdict}  {reason} (exact invariants, judged as {made.level})")
    for path in write(made, observed, directory, release):
        print(f"  {path}")
    return verdict.exit_code


def _program(request: TruthRequest) -> Program:
    """Return the program to watch. Raises UsageError unless it is either named or given as a command."""
    if (request.program is None) == (not request.command):
        raise UsageError("give either --program NAME (see --list), or a command after --")
    if request.program is not None:
        if request.packages:
            raise UsageError("--package goes with a command: a program's file names its packages")
        program = program_spec.load(request.program)
        warm_s = request.warm_s
        return program if warm_s is None else replace(program, warm_ns=int(warm_s * NSEC_PER_SEC))
    warm_ns = int((1.0 if request.warm_s is None else request.warm_s) * NSEC_PER_SEC)
    command = request.command
    return Program(Path(command[0]).name, " ".join(command), command, request.packages, warm_ns=warm_ns)


def _directory(request: TruthRequest) -> Path:
    """Return the directory for the results. Raises UsageError if it cannot be written, or holds others."""
    directory = request.output or run_directory.new_directory()
    run_directory.check(directory)
    if (directory / _TRUTH).exists() and not request.overwrite:
        raise UsageError(f"{directory} holds a truth: choose another --output, or give --overwrite")
    return directory


def summary(made: ProgramRun) -> list[str]:
    """Return lines about what was recorded, and what recording it cost."""
    recorded, (start_ns, end_ns) = made.runs.recorded, made.runs.span_ns
    seconds = (end_ns - start_ns) / NSEC_PER_SEC
    pages = len(np.unique(made.truth.pages))
    lines = [
        f"{made.program.name}: {made.program.reason}",
        f"accesses   {recorded.accesses:,} in {seconds:.1f} s of all programs, {recorded.unknown} more not"
        f" known; the program's own: {pages:,} pages ({pages * page_size() / 2**20:.1f} MiB)",
        f"clock      compared {recorded.clock_reads:,} times, at most {recorded.clock_behind_ns} ns off",
        f"recording  took {recorded.host_s:.1f} CPU seconds of this machine for {seconds:.1f} s of the guest",
    ]
    if made.cost is not None:
        rate = made.cost.used / (made.cost.window_ns / NSEC_PER_SEC)
        lines.append(f"kdamond    {rate / 1e6:.2f} million instructions a second")
    return lines


def figures(observed: Observation) -> list[str]:
    """Return a line for each figure: DAMON's, and the range of correct DAMONs over the same accesses."""
    length_s = (observed.recording.stopped_ns - observed.recording.started_ns) / NSEC_PER_SEC
    after_s = SETTLED_SHARE * length_s
    chosen = [METRICS[name] for name in FIGURES]
    reported = values(observed, chosen, after_s, None)
    runs = correct_runs(observed, range(1, REPLICAS + 1), after_s)
    lines = [f"accuracy   from {after_s:.1f} s on; hot is {Hot()}"]
    for metric in chosen:
        name, unit = metric.band.name, metric.band.unit
        band = sorted(run[name] for run in runs)
        inside = "" if not band or band[0] <= reported[name] <= band[-1] else "  outside"
        limits = f"{wording.quantity(band[0], unit)} to {wording.quantity(band[-1], unit)}" if band else "–"
        lines.append(f"  {name:<40}{wording.quantity(reported[name], unit):>14}   correct: {limits}{inside}")
    return lines


def correct_runs(observed: Observation, seeds: Sequence[int], after_s: float) -> list[Mapping[str, float]]:
    """Return the figures of the reference with clean rules over the same accesses, for each seed."""
    chosen = [METRICS[name] for name in FIGURES]
    return [
        values(replace(observed, recording=run), chosen, after_s, None) for run in replicas(observed, seeds)
    ]


def write(made: ProgramRun, observed: Observation, directory: Path, release: str) -> list[Path]:
    """Write truths, recording, damo's records and pictures; return their paths."""
    mapped = tuple((m.start, m.end) for m in made.mappings)
    level, seed = made.level, made.seed
    name = made.program.name
    virtual = SavedTruth(made.truth.coarser(SAVED_GAP_NS), name, release, level, "virtual", seed, mapped)
    physical = SavedTruth(
        made.physical.coarser(SAVED_GAP_NS), name, release, level, "physical", seed, made.ram
    )
    paths = [directory / _TRUTH, directory / "truth-physical.npz"]
    truth_file.save(paths[0], virtual)
    truth_file.save(paths[1], physical)
    truth = made.physical if made.ctx.operations == "paddr" else made.truth
    spans = spans_of(truth, windows(observed.recording), observed.recording)
    about = About(f"{name} on {release}", made.level, {}, (), observed.ctx)
    saved = Saved(observed.recording, spans, about)
    paths.append(directory / "recording.npz")
    recording_file.save(paths[-1], saved.recording, saved.truth, about)
    for stem, recording in (
        ("damon.data", made.recording),
        ("truth.data", perfect_report(observed.recording, truth)),
    ):
        paths.append(directory / stem)
        damo_format.save(paths[-1], recording, ctx=made.ctx)
    paths.append(directory / "heatmap.txt")
    output_file.write_text(paths[-1], "\n".join(draw.lines(saved, _TEXT_WIDTH)) + "\n")
    with contextlib.suppress(NotSupported):  # without matplotlib, the text must do
        draw.save(saved, directory / "heatmap.png")
        paths.append(directory / "heatmap.png")
    return paths

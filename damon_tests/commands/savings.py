# SPDX-License-Identifier: GPL-2.0
"""``damon-tests savings``: what DAMON's schemes save, and what they cost the workload."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from damon_tests.experiment.kernel_request import KernelRequest
from damon_tests.experiment.open_backend import open_backend
from damon_tests.judge.cost.savings import Arm, compared
from damon_tests.patterns.load import load
from damon_tests.ports import NotSupported, UsageError, output_file
from damon_tests.ports.narration import narrated, on_stderr
from damon_tests.report import figure, perf_report
from damon_tests.report import savings as rendered
from damon_tests.scenario.savings import Plan, Workload, run, runs
from damon_tests.scenario.savings_patterns import PatternWorkload
from damon_tests.scenario.savings_programs import ProgramWorkload
from damon_tests.workload import program_spec


@dataclass(frozen=True)
class Outputs:
    """``json``: a file for programs, "-" for standard output. ``picture``: .svg or .png. ``beside``: a report
    of damon-tests/perf to print after our figures."""

    json: Path | None = None
    picture: Path | None = None
    beside: Path | None = None


def workload(name: str) -> Workload:
    """Return the workload of this name: a program, a pattern of the library, or a file with one."""
    if name in program_spec.names():
        return ProgramWorkload(program_spec.load(name))
    return PatternWorkload(load(name))


def show(files: Sequence[Path], picture: Path | None) -> int:
    """Print the table of runs that were kept with ``--json``, and draw them.

    Raises UsageError for other files, and when a run without the scheme is missing.
    """
    if picture is not None:
        output_file.check_writable(picture)
        figure.check(picture)
    arms = [arm for file in files for arm in rendered.load(file)[0]]
    try:
        savings = compared(arms)
    except ValueError as error:
        raise UsageError(f"{', '.join(map(str, files))}: {error}") from None
    if not savings:
        raise UsageError(f"{', '.join(map(str, files))}: no run under a scheme, so nothing to compare")
    if picture is not None:
        rendered.save_picture(
            savings, picture, f"{len(savings)} schemes of DAMON, each against the same without"
        )
    print(f"{rendered.table(savings)}\n\n{rendered.LEGEND}")
    return 0


def measure(kernel: str, plan: Plan, outputs: Outputs) -> int:
    """Run all of a plan on a kernel, and print the table. Runs that the kernel cannot do are named."""
    for path in (outputs.json, outputs.picture):
        if path is not None:
            output_file.check_writable(path)
    if outputs.picture is not None:
        figure.check(outputs.picture)
    published = perf_report.read(outputs.beside) if outputs.beside is not None else None
    request = KernelRequest(kernel)
    if request.is_reference or request.is_host:
        raise UsageError(f"{kernel}: instructions are only counted in guests; use debian:SERIES or an image")
    request.check()
    arms, skipped, title = _performed(request, plan, outputs.json)
    if str(outputs.json) == "-":
        print(_json(arms, skipped, _about(request, plan)), end="")
    savings = compared(arms)
    if outputs.picture is not None and savings:
        rendered.save_picture(savings, outputs.picture, title)
    if str(outputs.json) != "-":
        print(f"{title}\n\n{rendered.table(savings)}\n\n{rendered.LEGEND}")
        print("".join(f"\nnot measured: {what}: {why}" for what, why in skipped.items()), end="")
        if published is not None:
            print(f"\n{perf_report.table(published)}\n\nmedians over (so many) workloads, {published.path}")
    return 0 if savings else NotSupported.exit_code


def _performed(
    request: KernelRequest, plan: Plan, results: Path | None
) -> tuple[list[Arm], dict[str, str], str]:
    """Return the arms, what could not be run with the reason, and a title with the kernel's release.

    The file ``results`` is written again after each run; a plan that was interrupted goes on from there.
    Raises UsageError when it holds runs of another kernel or of other times.
    """
    about = _about(request, plan)
    arms = _kept(results, about)
    done = {(arm.use, arm.workload, arm.scheme, arm.seed) for arm in arms}
    skipped: dict[str, str] = {}
    with (
        narrated(on_stderr),
        tempfile.TemporaryDirectory() as scratch,
        open_backend(request, Path(scratch)) as backend,
    ):
        for use, work, scheme, seed in runs(plan, workload):
            pair = f"{use} of {work.name}"
            if pair in skipped or (use, work.name, scheme.name, seed) in done:
                continue
            print(f"{use}: {work.name}, {scheme.name}, seed {seed} ...", file=sys.stderr, flush=True)
            try:
                arms.append(run(backend, plan, use, work, scheme, seed))
            except NotSupported as error:
                skipped[pair] = f"{scheme.name}: {error}"
            if results is not None and str(results) != "-":
                output_file.write_text(results, _json(arms, skipped, about))
        title = (
            f"{backend.provenance()['release']}: DAMON works for {plan.settle_s:g} s, then"
            f" {plan.measure_s:g} s are measured; {plan.repeats} pairs"
        )
    return arms, skipped, title


def _about(request: KernelRequest, plan: Plan) -> Mapping[str, object]:
    """Return what must be the same for runs to be compared."""
    return {"kernel": request.kernel, "settle_s": plan.settle_s, "measure_s": plan.measure_s}


def _kept(results: Path | None, about: Mapping[str, object]) -> list[Arm]:
    """Return the runs of an interrupted plan."""
    if results is None or str(results) == "-" or not results.exists():
        return []
    arms, old = rendered.load(results)
    if any(old.get(name) != value for name, value in about.items()):
        raise UsageError(f"{results} holds runs of {dict(old)}, not of {dict(about)}; name another file")
    return arms


def _json(arms: list[Arm], skipped: dict[str, str], about: Mapping[str, object]) -> str:
    return json.dumps(rendered.document(arms, {**about, "skipped": skipped}), indent=1) + "\n"

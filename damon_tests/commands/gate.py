# SPDX-License-Identifier: GPL-2.0
"""``damon-tests gate``: judge the DAMON of several kernels: one report, one exit code.

Each kernel is judged by ``damon-tests run`` in a process of its own, so that a kernel that breaks its run
leaves the others alone. What a run wrote stays in its directory; the merged run is in the directory above.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from damon_tests.commands import kselftest
from damon_tests.commands.kunit import run_kunit
from damon_tests.experiment.kernel_request import KernelRequest
from damon_tests.kernel.guest.topology import Topology
from damon_tests.ports import HarnessError, NotSupported, UsageError, output_file
from damon_tests.report import junit, ktap, merge, model, terminal
from damon_tests.report.cost_changes import CostChange, cost_changes
from damon_tests.report.verdict_changes import VerdictChange, verdict_changes

Run = Mapping[str, Any]

_LONGEST_NAME = 30  # columns; the rest of a row has 47
_NO_DAMON, _BROKE = 5, 6
_NO_KUNIT = ("reference", "host", "debian:")


@dataclass(frozen=True)
class GateRequest:
    """``kernels``: as for ``run``. ``areas``: suites, all if none. ``options``: further ones of ``run``.

    ``baseline``: directory of an earlier run, or one of ``kernels``. ``jobs``: kernels tested in parallel.
    ``guest``: what the guests have, see ``KernelRequest``.
    ``selftests``: source of the kernel's own selftests, as for ``kselftest``; None: they do not run.
    """

    kernels: Sequence[str]
    output: Path
    areas: Sequence[str] = ()
    options: Sequence[str] = ()
    baseline: str | None = None
    jobs: int = 1
    guest: KernelRequest = field(default_factory=KernelRequest)
    selftests: str | None = None


@dataclass(frozen=True)
class KernelRun:
    """``run`` is None where a kernel's run left nothing that can be read; ``log``: what it printed."""

    kernel: str
    directory: Path
    exit_code: int
    run: Run | None
    log: Path
    seconds: float


@dataclass(frozen=True)
class New:
    """What is new against the baseline."""

    verdicts: Sequence[VerdictChange]
    costs: Sequence[CostChange]


def gate(request: GateRequest, say: Callable[[str], None] = print) -> int:
    """Run the suites on every kernel, write the merged run, print what is new; return the worst exit code.

    Raises UsageError for a request that cannot work, before any kernel is booted.
    """
    _check_kernels(request)
    earlier = earlier_run(request)
    with ThreadPoolExecutor(max_workers=request.jobs) as pool:
        runs = list(pool.map(lambda kernel: _run_kernel(kernel, request, say), request.kernels))
    runs += _kunit_runs(request, say)
    runs += _selftest_runs(request, say)
    conclude(request, runs, earlier, say)
    return worst([k.exit_code for k in runs])


def conclude(
    request: GateRequest, runs: Sequence[KernelRun], earlier: Run | None, say: Callable[[str], None]
) -> None:
    """Write the merged run and print it, with what is new against the baseline.

    Raises HarnessError if no run left results.
    """
    readable = [(k.directory, k.run) for k in runs if k.run is not None]
    if not readable:
        raise HarnessError(f"no kernel's run left results; see {', '.join(str(k.log) for k in runs)}")
    whole = merge.merged(readable, request.output)
    own = [(k.directory, k.run) for k in runs if k.kernel == request.baseline and k.run is not None]
    baseline = earlier or (merge.merged(own, request.output) if own else None)
    new = None if baseline is None else New(verdict_changes(whole, baseline), cost_changes(whole, baseline))
    _write(request.output, whole, runs, new)
    for line in [*_capabilities(whole), *summary(runs, new)]:
        say(line)
    say(f"Results  {request.output}")
    say(f"Again    damon-tests report {request.output}")


def worst(codes: Sequence[int]) -> int:
    """Return the exit code of all: 2 if any was interrupted, then the worst of 6, 1, 7; 5 if all are."""
    for code in (2, _BROKE, 1, 7):
        if code in codes:
            return code
    others = [code for code in codes if code not in (0, _NO_DAMON)]
    if others:
        return _BROKE  # killed by a signal, or pytest's own 3 and 4
    return 0 if 0 in codes else _NO_DAMON


def summary(runs: Sequence[KernelRun], new: New | None) -> list[str]:
    """Return the lines for the terminal: a table of kernels, what is new, known defects by name."""
    width = max([len("kernel"), *(len(k.kernel) for k in runs if len(k.kernel) <= _LONGEST_NAME)])
    titles = " ".join(f"{title:>5}" for title in ("PASS", "FAIL", "XFAIL", "SKIP", "other"))
    lines = ["", f"{'kernel':<{width}}  gate  {titles}  {'time':>7}"]
    for k in runs:
        counts = k.run["counts"] if k.run is not None else {}
        other = sum(counts.get(v, 0) for v in ("XPASS", "INCONCLUSIVE", "ERROR"))
        numbers = " ".join(f"{counts.get(v, 0):>5}" for v in ("PASS", "FAIL", "XFAIL", "SKIP"))
        name = k.kernel
        if len(name) > width:  # a long path has a line of its own, so that 80 columns show the numbers
            lines.append(name)
            name = ""
        lines.append(
            f"{name:<{width}}  {_word(k.exit_code):<4}  {numbers} {other:>5}  {k.seconds / 60:>5.1f} m"
        )
    lines += [f"{k.kernel}: no results; see {k.log}" for k in runs if k.run is None]
    lines += [] if new is None else _new(new)
    defects = known_defects(runs)
    if defects:
        lines += ["", "known defects"]
        lines += [f"  {name}: {', '.join(kernels)}" for name, kernels in defects.items()]
    return [*lines, ""]


def _capabilities(whole: Run) -> list[str]:
    """Return the table of capabilities against kernels, if there are several."""
    if len({test["backend"] for test in whole["tests"]}) < 2:
        return []
    return ["", *(line.plain for line in terminal.table(whole))]


def _word(code: int) -> str:
    return {0: "good", 1: "FAIL", 5: "none", _BROKE: "ERR", 7: "?"}.get(code, f"({code})")


def _new(new: New) -> list[str]:
    if not new.verdicts and not new.costs:
        return ["", "nothing is new against the baseline"]
    lines = ["", "new against the baseline"]
    for change in new.verdicts:
        lines.append(
            f"  {change.before or 'not there'} → {change.after or 'gone'}  {change.test}  [{change.backend}]"
        )
        if change.worse and change.reason:
            lines.append(f"    {change.reason}")
    return [*lines, *(f"  {cost}  [{cost.backend}]" for cost in new.costs)]


_DEFECT = re.compile(r"known defect (?P<names>[\w, .-]+?)(?: \(|:)")


def known_defects(runs: Sequence[KernelRun]) -> dict[str, list[str]]:
    """Return the known defects that the runs show, each with the kernels that show it."""
    shown: dict[str, list[str]] = {}
    for k in runs:
        for test in k.run["tests"] if k.run is not None else ():
            defect = _DEFECT.match(test["reason"]) if test["verdict"] == "XFAIL" else None
            for name in defect["names"].split(", ") if defect else ():
                if k.kernel not in shown.setdefault(name, []):
                    shown[name].append(k.kernel)
    return dict(sorted(shown.items()))


def _run_kernel(kernel: str, request: GateRequest, say: Callable[[str], None]) -> KernelRun:
    directory = request.output / _directory_name(kernel)
    log = directory.with_suffix(directory.suffix + ".log")
    say(f"{kernel}: testing, output in {log}")
    run = run_suites(kernel, directory, request.areas, request.options, log)
    code = run.exit_code
    say(
        f"{kernel}: {_word(code)} after {run.seconds / 60:.1f} min"
        + ("" if code == 0 else f", exit code {code}")
    )
    return run


def run_suites(
    kernel: str, directory: Path, areas: Sequence[str], options: Sequence[str], log: Path
) -> KernelRun:
    """Run suites on one kernel, in a process of its own whose output goes to ``log``."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    return _run_command("run", kernel, directory, [*options, *areas], log)


def _run_command(command: str, kernel: str, directory: Path, options: Sequence[str], log: Path) -> KernelRun:
    """Run a command of ours that leaves a run, in a process of its own."""
    argv = [sys.executable, "-m", "damon_tests.cli", command, f"--kernel={kernel}", f"--output={directory}"]
    began = time.monotonic()
    with log.open("wb") as out:
        code = subprocess.run([*argv, *options], stdout=out, stderr=out, check=False).returncode
    return KernelRun(kernel, directory, code, _load(directory), log, time.monotonic() - began)


def run_selftests_of(kernel: str, directory: Path, source: str) -> KernelRun:
    """Run the kernel's own selftests, of a tree or of Debian's source ("debian"), on a kernel."""
    log = directory.with_suffix(directory.suffix + ".log")
    return _run_command("kselftest", kernel, directory, [f"--source={source}"], log)


def _selftest_runs(request: GateRequest, say: Callable[[str], None]) -> list[KernelRun]:
    """Run the kernel's own selftests on each kernel. The first shard does."""
    if request.selftests is None or _is_later_shard(request):
        return []
    runs = []
    for kernel in request.kernels:
        directory = request.output / f"{_directory_name(kernel)}-selftests"
        say(f"{kernel}: its selftests, output in {directory}.log")
        runs.append(run_selftests_of(kernel, directory, request.selftests))
    return runs


def _is_later_shard(request: GateRequest) -> bool:
    return any(re.match(r"--shard=(?!1/)", option) for option in request.options)


def _kunit_runs(request: GateRequest, say: Callable[[str], None]) -> list[KernelRun]:
    """Run the KUnit tests of kernels given by their path; Debian's have none. The first shard does."""
    if _is_later_shard(request):
        return []
    own = [kernel for kernel in request.kernels if not kernel.startswith(_NO_KUNIT)]
    guest = request.guest.guest()
    runs = [run_kunit_of(k, request.output / f"{_directory_name(k)}-kunit", say, guest) for k in own]
    return [run for run in runs if run is not None]


def run_kunit_of(
    kernel: str, directory: Path, say: Callable[[str], None], guest: Topology
) -> KernelRun | None:
    """Run the KUnit tests of a kernel; None if none are built in."""
    log = directory.with_suffix(".log")
    try:
        code = run_kunit(kernel, directory, say, guest)
    except NotSupported as error:
        say(f"no KUnit results: {error}")
        return None
    except HarnessError as error:
        output_file.write_text(log, f"{error}\n")
        say(f"no KUnit results: {error}")
        return KernelRun(kernel, directory, error.exit_code, None, log, 0.0)
    run = model.load(directory)
    return KernelRun(kernel, directory, code, run, log, run["duration_s"])


def _load(directory: Path) -> Run | None:
    try:
        return model.load(directory)
    except UsageError:
        return None


def _directory_name(kernel: str) -> str:
    return re.sub(r"[^\w.-]+", "-", kernel).strip("-.")


def _check_kernels(request: GateRequest) -> None:
    """Raise UsageError for kernels that cannot be judged."""
    names = [_directory_name(kernel) for kernel in request.kernels]
    if not names or not all(names):
        raise UsageError("no kernel to judge: give --kernel K, once for each")
    if len(set(names)) < len(names):
        raise UsageError(f"a kernel is given twice: {', '.join(request.kernels)}")
    for kernel in request.kernels:
        replace(request.guest, kernel=kernel).check()
        if request.selftests is not None:
            kselftest.check(kernel, request.selftests)


def earlier_run(request: GateRequest) -> Run | None:
    """Return the run to compare with, unless it is that of a kernel which is yet to run.

    Raises UsageError for an output that holds a run, and for a baseline that is none.
    """
    if (request.output / model.RUN_JSON).exists():
        raise UsageError(f"{request.output}: holds a run already; give another --output")
    if request.baseline is None or request.baseline in request.kernels:
        return None
    return model.load(Path(request.baseline))


def _write(directory: Path, whole: Mapping[str, Any], runs: Sequence[KernelRun], new: New | None) -> None:
    output_file.write_text(directory / model.RUN_JSON, json.dumps(whole, indent=1, allow_nan=False) + "\n")
    junit.save(whole, directory / "junit.xml")
    ktap.save(whole, directory / "results.ktap")
    verdicts = {
        "schema": 1,
        "kernels": [
            {
                "kernel": k.kernel,
                "directory": k.directory.name,
                "exit_code": k.exit_code,
                "seconds": k.seconds,
            }
            for k in runs
        ],
        "changes": [vars(change) for change in new.verdicts] if new else [],
        "costs": [{**vars(change), "share": change.share} for change in new.costs] if new else [],
        "known_defects": known_defects(runs),
    }
    output_file.write_text(directory / "gate.json", json.dumps(verdicts, indent=1) + "\n")

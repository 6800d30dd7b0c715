# SPDX-License-Identifier: GPL-2.0
"""``damon-tests kselftest``: the kernel's own DAMON selftests, on a kernel in a guest or on the reference.

They run unmodified, each on a DAMON of its own, under the runner of their tree. The results are a run
like any other: run.json, JUnit, verdicts and exit codes.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import damon_tests
from damon_tests import bundle
from damon_tests.commands import report as reports
from damon_tests.commands.selftest_verdict import (
    SelftestEvidence,
    SelftestVerdict,
    judge,
    needs_drgn,
    of_debugfs,
)
from damon_tests.damon.features import LEVELS
from damon_tests.damon.known_defects import numbers
from damon_tests.judge.verdict import Measurement, Verdict
from damon_tests.kernel import ktap
from damon_tests.kernel.guest import selftest_run
from damon_tests.kernel.guest.guest import Guests
from damon_tests.kernel.images import image, selftests
from damon_tests.kernel.images.selftests import COLLECTION, RUNNER, SelftestSource
from damon_tests.kernel.splat import parse_splats
from damon_tests.ports import DamonTestsError, NotSupported, UsageError
from damon_tests.report import model
from damon_tests.report.events import RunLog
from damon_tests.report.run_directory import Claim, attempt_directory, new_directory
from damon_tests.report.verdict_changes import verdict_changes

GROUP = f"kselftest/{COLLECTION}"
"""What ids begin with: ``kselftest/damon::sysfs.sh``."""

TIMEOUT_S = 300
DEBIAN = "debian"
_REFERENCE = "reference"
_GRACE_S = 60


@dataclass(frozen=True)
class SelftestRequest:
    """``kernel``: as for ``run``, not host. ``source``: "debian" or a kernel tree. ``programs``: all if none.

    ``timeout_s``: after which a program is ended. ``baseline``: directory of a run to compare verdicts with.
    """

    kernel: str
    source: str = DEBIAN
    programs: Sequence[str] = ()
    timeout_s: int = TIMEOUT_S
    output: Path | None = None
    baseline: Path | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class ProgramRun:
    """What running a program gave: ``printed`` by the runner, the kernel's log, what was observed."""

    printed: str
    evidence: SelftestEvidence
    kernel_log: str = ""


class Runner(Protocol):
    """Where programs run."""

    level: str

    def provenance(self) -> dict[str, object]: ...

    def missing(self, source: str) -> str:
        """Return what a program with this source needs and has not here; empty if nothing."""
        ...

    def run(self, program: str, source: str) -> ProgramRun: ...


def kselftest(request: SelftestRequest) -> int:
    """Run the selftests, print and write the results; return the exit code of their verdicts.

    Raises UsageError, NotSupported (no source, no guest) and HarnessError.
    """
    check(request.kernel, request.source)
    baseline = None if request.baseline is None else model.load(request.baseline)
    series = _series(request.kernel)
    source = (
        selftests.of_debian(series) if request.source == DEBIAN else selftests.of_tree(Path(request.source))
    )
    programs = _chosen(request.programs, source)
    directory = (request.output or new_directory()).absolute()
    claim = Claim(directory, overwrite=request.overwrite)
    try:
        with tempfile.TemporaryDirectory(prefix="damon-tests-selftests-") as made:
            installed = Path(made) / "kselftest"
            selftests.install(source, installed)
            with _runner(request, series, installed, directory) as runner, RunLog(directory) as log:
                _run_all(runner, log, programs, source, request)
    finally:
        claim.release()
    run = model.save(directory)
    reports.write_files(directory, run)
    for line in reports.lines(directory):
        print(line)
    if baseline is not None:
        _print_changes(run, baseline)
    return model.exit_code(run)


def _chosen(names: Sequence[str], source: SelftestSource) -> Sequence[str]:
    unknown = [name for name in names if name not in source.programs]
    if unknown:
        raise UsageError(f"no such selftest: {', '.join(unknown)}; there are {', '.join(source.programs)}")
    return names or source.programs


def check(kernel: str, source: str) -> None:
    """Raise UsageError for a kernel or source without selftests to run; asks no archive, boots nothing."""
    if kernel == "host":
        raise UsageError(
            "selftests change DAMON's state as root: run them in a guest, --kernel debian:SERIES"
        )
    if kernel.startswith(_REFERENCE):
        _series(kernel)
    if source != DEBIAN:
        selftests.of_tree(Path(source))


def _series(kernel: str) -> str:
    """Return the series whose selftests fit the kernel. Raises UsageError."""
    if kernel.startswith(_REFERENCE):
        level = kernel.partition(":")[2] or LEVELS[-1]
        if kernel.partition(":")[0] != _REFERENCE or level not in LEVELS:
            raise UsageError(f"{kernel}: no such reference; there are levels {', '.join(LEVELS)}")
        return level
    return ".".join(str(number) for number in numbers(image.resolve(kernel).release)[:2])


@contextlib.contextmanager
def _runner(request: SelftestRequest, series: str, installed: Path, directory: Path) -> Iterator[Runner]:
    if request.kernel.startswith(_REFERENCE):
        yield ReferenceRunner(series, installed, request.timeout_s)
        return
    with Guests(directory, clock="instructions") as guests:
        yield GuestRunner(request.kernel, series, guests, installed, request.timeout_s)


def _run_all(
    runner: Runner, log: RunLog, programs: Sequence[str], source: SelftestSource, request: SelftestRequest
) -> None:
    tested = {"selftests": source.name, "timeout_s": request.timeout_s, "version": damon_tests.__version__}
    log.run_started({"kernel": runner.provenance(), **tested, "options": []})
    interrupted = True
    try:
        for program in programs:
            _run_one(runner, log, program, source.text(program), request.kernel)
        interrupted = False
    finally:
        log.run_finished(interrupted=interrupted)


def _run_one(runner: Runner, log: RunLog, program: str, text: str, kernel: str) -> None:
    began = time.monotonic()
    name = f"{GROUP}::{program}"
    print(f"{name} ...", end=" ", flush=True)
    log.test_started(name, kernel, runner.level)
    try:
        missing = runner.missing(text)
        if missing:
            verdicts = [SelftestVerdict(program, Verdict.SKIP, missing)]
        else:
            run = runner.run(program, text)
            _keep(log, name, run)
            verdicts = judge(program, run.evidence)
    except NotSupported as error:
        verdicts = [SelftestVerdict(program, Verdict.SKIP, str(error))]
    except DamonTestsError as error:
        verdicts = [SelftestVerdict(program, Verdict.ERROR, str(error).partition("\n")[0])]
    seconds = time.monotonic() - began
    own = next((v for v in verdicts if v.name == program), None)
    for verdict in verdicts:
        if verdict is not own:
            log.test_started(f"{GROUP}::{verdict.name}", kernel, runner.level)
            _finish(log, verdict, kernel, runner.level, 0.0)
    _finish(log, own or _group(program, verdicts), kernel, runner.level, seconds)
    print(f"{(own or _group(program, verdicts)).verdict} {seconds:.1f} s", flush=True)


def _finish(log: RunLog, verdict: SelftestVerdict, kernel: str, level: str, seconds: float) -> None:
    name = f"{GROUP}::{verdict.name}"
    log.measurement(name, Measurement("vacuous passes", float(verdict.vacuous), "count"))
    log.test_finished(name, kernel, level, verdict.verdict, verdict.reason, seconds)


def _group(program: str, verdicts: Sequence[SelftestVerdict]) -> SelftestVerdict:
    """Return the verdict of a program whose subtests have verdicts of their own."""
    bad = [v for v in verdicts if v.verdict not in (Verdict.PASS, Verdict.SKIP, Verdict.XFAIL)]
    if bad:
        return SelftestVerdict(
            program, bad[0].verdict, f"{len(bad)} of {len(verdicts)} subtests did not pass"
        )
    shown = Verdict.PASS if any(v.verdict == Verdict.PASS for v in verdicts) else verdicts[0].verdict
    return SelftestVerdict(program, shown, f"{len(verdicts)} subtests")


def _keep(log: RunLog, name: str, run: ProgramRun) -> None:
    """Write what was printed and counted to the run's directory."""
    directory = attempt_directory(log.directory, name, 1)
    for kind, text in (("output", run.printed), ("log", run.kernel_log)):
        if text:
            path = directory / f"{'kernel' if kind == 'log' else 'output'}.log"
            path.write_text(text)
            log.artifact(name, path, kind)
    counted = (
        ("wake-ups of kdamonds", run.evidence.wakeups),
        ("reports of regions with accesses", run.evidence.accessed_regions),
        ("changes of DAMON's state left behind", len(run.evidence.left_behind)),
    )
    for what, count in counted:
        if count is not None:
            log.measurement(name, Measurement(what, float(count), "count"))


def _print_changes(run: model.Json, baseline: model.Json) -> None:
    changes = verdict_changes(run, baseline)
    print("new against the baseline" if changes else "nothing is new against the baseline")
    for change in changes:
        print(f"  {change.before or 'not there'} → {change.after or 'gone'}  {change.test}  {change.reason}")


class GuestRunner:
    """A kernel in guests: a pristine one for each program."""

    def __init__(self, kernel: str, level: str, guests: Guests, installed: Path, timeout_s: int) -> None:
        self.level = level if level in LEVELS else ""
        self._image = image.resolve(kernel)
        self._guests = guests
        self._packed = selftest_run.packed(installed)
        self._timeout_s = timeout_s

    def provenance(self) -> dict[str, object]:
        return {
            "kind": "guest",
            "release": self._image.release,
            "packages": [list(p) for p in self._image.packages],
        }

    def missing(self, source: str) -> str:
        if not needs_drgn(source):
            return ""
        with self._guests.fresh(self._image, selftest_run.TOPOLOGY, seed=1) as guest:
            if selftest_run.has_program(guest, "drgn"):
                return ""
        return "needs drgn, and debug information of the kernel, in the guest: without them it fails"

    def run(self, program: str, source: str) -> ProgramRun:
        with self._guests.fresh(self._image, selftest_run.TOPOLOGY, seed=1) as guest:
            done = selftest_run.run_selftest(guest, self._packed, program, self._timeout_s)
            untested = of_debugfs(program) and not done.lost and not selftest_run.has_debugfs(guest)
        evidence = SelftestEvidence(
            source,
            ktap.read(done.printed.splitlines()),
            ended=done.ended,
            complaints=[f"{splat.kind}: {splat.title}" for splat in parse_splats(done.kernel_log)],
            wakeups=done.wakeups,
            accessed_regions=done.accessed_regions,
            left_behind=done.left_behind,
            lost=done.lost,
            absent=selftest_run.DEBUGFS if untested else "",
        )
        return ProgramRun(done.printed, evidence, done.kernel_log)


class ReferenceRunner:
    """The reference, served as files: a fresh one for each program."""

    def __init__(self, level: str, installed: Path, timeout_s: int) -> None:
        self.level = level
        self._installed = installed
        self._timeout_s = timeout_s

    def provenance(self) -> dict[str, object]:
        return {"kind": "reference", "level": self.level}

    def missing(self, source: str) -> str:
        del source  # the drgn of our shims reads the reference
        return ""

    def run(self, program: str, source: str) -> ProgramRun:
        shims = bundle.root() / "kselftest_compat" / "shims"
        path = os.pathsep.join(
            [str(shims), str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
        )
        command = [f"./{RUNNER}", "-t", f"{COLLECTION}:{program}", "-o", str(self._timeout_s)]
        serve = [sys.executable, "-m", "damon_tests.cli", "serve", "--level", self.level, "--exec", *command]
        package = Path(damon_tests.__file__).resolve().parent.parent
        ended = True
        try:
            done = subprocess.run(
                serve,
                cwd=self._installed,
                env={**os.environ, "PATH": path, "PYTHONPATH": str(package), "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=self._timeout_s + _GRACE_S,
                check=False,
            )
            printed = done.stdout
        except subprocess.TimeoutExpired as error:
            output = error.stdout or b""
            printed, ended = output.decode(errors="replace") if isinstance(output, bytes) else output, False
        if re.search(r"^damon-tests: ", printed, re.MULTILINE):
            said = re.findall(r"^damon-tests: (.*)$", printed, re.MULTILINE)[0]
            raise NotSupported(f"the reference cannot be served here: {said}")
        log = ktap.read(printed.splitlines())
        return ProgramRun(printed, SelftestEvidence(source, log, ended=ended))

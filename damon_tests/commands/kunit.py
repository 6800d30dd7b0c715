# SPDX-License-Identifier: GPL-2.0
"""``damon-tests kunit``: DAMON's KUnit tests of a kernel, run at boot in a guest or under UML, as a run."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from damon_tests.judge.verdict import Verdict
from damon_tests.kernel.build import uml
from damon_tests.kernel.build.make import Built
from damon_tests.kernel.guest.guest import Guests
from damon_tests.kernel.guest.topology import Topology
from damon_tests.kernel.images import image as images
from damon_tests.kernel.images.source_lines import with_source_lines
from damon_tests.kernel.ktap import KtapLog, KtapTest, Outcome, read
from damon_tests.kernel.splat import Splat, parse_splats
from damon_tests.ports import MachineLost, NotSupported, output_file
from damon_tests.report import junit, model
from damon_tests.report.events import RunLog
from damon_tests.report.run_directory import Claim

Say = Callable[[str], None]

BUILT_IN = ("CONFIG_KUNIT", "CONFIG_DAMON_KUNIT_TEST")
_GUEST = Topology(cmdline=("kunit.enable=1", "kunit.autorun=1", "kunit.filter_glob=damon*"))
_CONSOLE = "console.log"
_KERNEL_LOG = "kunit::kernel_log"

_VERDICTS: Mapping[Outcome, Verdict] = {
    "pass": Verdict.PASS,
    "skip": Verdict.SKIP,
    "xfail": Verdict.XFAIL,
    "fail": Verdict.FAIL,
    "timeout": Verdict.FAIL,
    "missing": Verdict.FAIL,
}


def has_kunit(image: images.KernelImage) -> bool | None:
    """Return whether DAMON's KUnit tests are built into a kernel; None if its configuration is unknown."""
    return None if image.config is None else all(image.config.get(name) == "y" for name in BUILT_IN)


def run_kunit(kernel: str, directory: Path, say: Say = print, guest: Topology = _GUEST) -> int:
    """Boot a kernel with its KUnit tests, write the results as a run; return the exit code of their verdicts.

    Raises NotSupported if the kernel has none, HarnessError if it does not boot.
    """
    image = images.resolve(kernel)
    if has_kunit(image) is False:
        raise NotSupported(
            f"DAMON's KUnit tests in {kernel}",
            remedy=f"build it with {' and '.join(f'{name}=y' for name in BUILT_IN)} (--config damon)",
        )
    return _run(directory, kernel, image.release, lambda: boot_console(image, guest.on(_GUEST)), say)


def run_kunit_under_uml(built: Built, directory: Path, say: Say = print, append: Sequence[str] = ()) -> int:
    """Run the KUnit tests of a User Mode Linux; as ``run_kunit`` otherwise."""
    parameters = (*_GUEST.cmdline, *append)
    return _run(
        directory, str(built.image), built.release, lambda: uml.console_of(built.image, parameters), say
    )


def _run(directory: Path, kernel: str, release: str, boot: Callable[[], str], say: Say) -> int:
    """Boot, and write the results; return the exit code of their verdicts."""
    claim = Claim(directory)
    try:
        began = time.time()
        console = boot()
        output_file.write_text(directory / _CONSOLE, console)
        run = record(console, directory, kernel, release, began)
    finally:
        claim.release()
    for line in summary(run):
        say(line)
    return model.exit_code(run)


def boot_console(image: images.KernelImage, topology: Topology) -> str:
    """Boot a guest and return what its console shows; of one that crashed, too."""
    with tempfile.TemporaryDirectory(prefix="damon-tests-kunit-") as name, Guests(Path(name)) as guests:
        try:
            with guests.live(image, topology) as guest:
                return with_source_lines(guest.dmesg(), image)
        except MachineLost as error:
            if not parse_splats(error.log) and "KTAP version" not in error.log:
                raise
            return error.log


def record(console: str, directory: Path, backend: str, release: str, began: float) -> model.Json:
    """Write the events and ``run.json`` of a console; return the run.

    Raises NotSupported if no test reported anything.
    """
    parsed = read(console.splitlines())
    results = damon_results(parsed)
    if not results:
        raise NotSupported(
            f"KUnit tests of DAMON at the boot of {backend}", remedy="build the kernel with --config damon"
        )
    with RunLog(directory) as log:
        log.run_started({"kernel_option": backend, "kernel": {"release": release}}, began=began)
        for test_id, test in results:
            _record_test(log, backend, test_id, _VERDICTS[test.outcome], _reason(test))
        for splat in parse_splats(console)[:1]:
            _record_test(log, backend, _KERNEL_LOG, Verdict.FAIL, _complaint(splat))
        log.artifact(None, _CONSOLE, "dmesg", "console of the boot")
        log.run_finished()
    run = model.save(directory)
    junit.save(run, directory / "junit.xml")
    return run


def damon_results(parsed: KtapLog) -> list[tuple[str, KtapTest]]:
    """Return DAMON's tests as (id, test): ``kunit/damon-operations::damon_test_three_regions_in_vmas``."""
    results = []
    for suite in parsed.tests:
        if suite.name.startswith("damon"):
            for path, test in suite.leaves():
                results.append((f"kunit/{suite.name}::{path.partition('.')[2] or suite.name}", test))
    return results


def _record_test(log: RunLog, backend: str, test_id: str, verdict: Verdict, reason: str) -> None:
    log.test_started(test_id, backend, "")
    log.test_finished(test_id, backend, "", verdict, reason, 0.0)


def _reason(test: KtapTest) -> str:
    """Return why a test is not a pass: its own words, else what it printed."""
    if test.outcome == "pass":
        return ""
    said = [line for line in test.diagnostics if "EXPECTATION FAILED" in line or "ASSERTION FAILED" in line]
    return test.reason or " / ".join(said or test.diagnostics[-3:]) or "reported not ok"


def _complaint(splat: Splat) -> str:
    return f"the kernel complained during its KUnit tests: {splat.kind}: {splat.title}"


def summary(run: Mapping[str, object]) -> list[str]:
    """Return a line for each test that did not pass, and the counts."""
    tests = run["tests"]
    assert isinstance(tests, list)
    bad = [f"{t['verdict']}  {t['id']}: {t['reason']}" for t in tests if t["verdict"] != "PASS"]
    passed = len(tests) - len(bad)
    return [*bad, f"KUnit: {passed} of {len(tests)} passed"]

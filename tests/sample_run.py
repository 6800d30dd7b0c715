# SPDX-License-Identifier: GPL-2.0
"""A run with every verdict, made through the same calls that the plugin makes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from synthetic_recordings import BASE, MIB, MS, phases

from damon_tests.damon import recording_file
from damon_tests.judge.chart import Chart, Curve, Mark, Panel, band, curve, to_json
from damon_tests.judge.monitoring import metrics
from damon_tests.judge.monitoring.aggregation_windows import settled, windows
from damon_tests.judge.monitoring.all_invariants import all_invariants
from damon_tests.judge.monitoring.report import Report
from damon_tests.judge.monitoring.report_vs_truth import compare
from damon_tests.judge.monitoring.true_rates import spans_of
from damon_tests.judge.verdict import Check, Measurement, Verdict, decide
from damon_tests.report.events import RunLog

BACKEND = ("debian:7.3", "7.3")
SUITE = "suites/monitoring"
PROBES = "no probes (needs Linux 7.2; run with --kernel debian:7.3)"


def write(directory: Path, *, finish: bool = True) -> None:
    """Events, recordings and logs of a made-up run below ``directory``."""
    with RunLog(directory) as log:
        kernel = {"kind": "guest", "release": "7.3.4-amd64", "accelerator": "tcg"}
        log.run_started({"kernel": kernel, "seed": 1, "command": "damon-tests run --kernel debian:7.3"})
        _accurate(log)
        _wrong(log)
        for name, verdict, reason in [
            (
                "test_online.py::test_commit",
                Verdict.ERROR,
                "guest died: Kernel panic - not syncing: <oops> & more",
            ),
            (
                "test_age.py::test_passes",
                Verdict.XFAIL,
                "known defect age counted per pass (bug 31): age grew by 3",
            ),
            (
                "test_abi.py::test_levels",
                Verdict.XPASS,
                "passes although 'off returns EPERM' was expected: remove the marker",
            ),
            ("test_probes.py::test_hits", Verdict.SKIP, PROBES),
            ("test_probes.py::test_weights", Verdict.SKIP, PROBES),
            ("test_numa.py::test_nodes", Verdict.SKIP, "one NUMA node only (run with --numa 2)"),
        ]:
            log.test_started(f"{SUITE}/{name}", *BACKEND)
            log.test_finished(f"{SUITE}/{name}", *BACKEND, verdict, reason, 0.2)
        _undecided(log)
        log.timing("restore guests", 4.1)
        log.timing("open kernel", 7.4)
        log.artifact(None, "console.log", "log")
        if finish:
            log.run_finished()


def _accurate(log: RunLog) -> None:
    truth, damon, report = phases()
    test = f"{SUITE}/test_phases.py::test_invariants"
    log.test_started(test, *BACKEND)
    log.attempt(test, 1, 123456789, {"prepare": 0.3, "monitor": 6.0, "collect": 0.1})
    checks = all_invariants(report, [Report(report, damon.ctx, "7.3")])
    compared = compare(report, settled(report, 1000 * MS), truth)
    checks.append(Check("closed form", metrics.coverage(compared), "== 1", "everything is monitored", True))
    for check in checks:
        log.check(test, check)
    log.test_finished(test, *BACKEND, *decide(checks), 6.4)


def _wrong(log: RunLog) -> None:
    """A DAMON that never sees the second phase."""
    truth, _, report = phases()
    test = f"{SUITE}/test_phases.py::test_accuracy"
    blind = [
        replace(s, nr_accesses=s.nr_accesses * np.uint32(s.start.size < 0)) if s.time_ns > 3000 * MS else s
        for s in report.snapshots
    ]
    report = replace(report, snapshots=tuple(blind))
    log.test_started(test, *BACKEND)
    log.attempt(test, 1, 42, {"prepare": 0.3, "monitor": 6.1})
    directory = log.directory / "tests" / "accuracy" / "attempt-1"
    directory.mkdir(parents=True)
    spans = spans_of(truth, windows(report), report)
    recording_file.save(directory / "recording.npz", report, spans)
    log.artifact(test, directory / "recording.npz", "recording", attempt=1)
    (directory / "kernel.log").write_text("[    4.2] something <b>odd</b>\n")
    log.artifact(test, directory / "kernel.log", "log", "kernel.log", attempt=1)
    for number, kind in enumerate(("line", "bars"), 1):
        (directory / f"chart-{number}.json").write_text(json.dumps(to_json(_chart(kind))))
        log.artifact(test, directory / f"chart-{number}.json", "chart", "recall: over time", attempt=1)
    compared = compare(report, settled(report, 1000 * MS), truth)
    limit = "not below the reference's 0.93 to 0.99"
    why = "rank among 200 replicas, median 0.97"
    recall = metrics.recall(compared, 0.5)
    error = metrics.boundary_error(compared, 0.5)
    checks = [
        Check("oracle band", recall, limit, why, False, "p = 2e-06 after 3 attempts of at most 5", 0.001),
        Check("oracle band", error, "not above the reference's 0 to 65536", why, False, "p = 3e-06", 0.001),
    ]
    for check in checks:
        log.check(test, check)
    log.test_finished(test, *BACKEND, *decide(checks), 19.2)


def _chart(kind: str) -> Chart:
    if kind == "bars":
        bars = tuple(Curve(name, (0.0, 1.0), (4096.0, 8192.0)) for name in ("before", "after"))
        return Chart("nodes", (Panel("bytes", bars, groups=("node 0", "node 1")),), x_label="")
    x = tuple(i / 10 for i in range(60))
    curves = (
        curve("tried", x, [i * 4096 for i in range(60)], "dots"),
        curve("quota", x, [65536] * 60, "expected"),
    )
    limits = band("what the quota allows in all windows together", x, [0] * 60, [65536] * 60)
    return Chart("bytes tried", (Panel("bytes", curves, (limits,)),), (Mark("paused", 1.0, 2.0),))


def _undecided(log: RunLog) -> None:
    test = f"{SUITE}/test_idle.py::test_overhead[1 GiB]"
    log.test_started(test, *BACKEND)
    m = Measurement("overhead", 0.031, "fraction", (0.02, 0.05, 0.03, 0.03, 0.04))
    check = Check("budget", m, "<= 0.03", "one part in thirty of a CPU", None, "interval 0.02 to 0.05")
    log.check(test, check)
    log.test_finished(test, *BACKEND, *decide([check]), 31.0)


LAYOUT = {"heap": (BASE, BASE + 64 * MIB)}

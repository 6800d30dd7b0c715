# SPDX-License-Identifier: GPL-2.0
"""The kernel's own reader of KTAP, tools/testing/kunit/kunit.py, takes ours."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import sample_run

from damon_tests.kernel.images import selftests
from damon_tests.ports import DamonTestsError
from damon_tests.report import ktap, model

pytestmark = pytest.mark.long


def test_kunit_py_counts_the_same_verdicts(tmp_path: Path) -> None:
    try:
        kunit = selftests.of_debian("7.3").kunit
    except DamonTestsError as error:
        pytest.skip(f"the kernel's source cannot be had: {error}")
    sample_run.write(tmp_path)
    run = model.load(tmp_path)
    ktap.save(run, tmp_path / "results.ktap")
    command = [sys.executable, str(kunit), "parse", str(tmp_path / "results.ktap")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    printed = done.stdout + done.stderr
    assert done.returncode == 1, printed  # some failed
    counts = run["counts"]
    totals = {name: int(number) for name, number in re.findall(r"(passed|failed|skipped): (\d+)", printed)}
    assert totals == {
        "passed": counts["PASS"] + counts["XFAIL"],
        "failed": sum(counts[v] for v in ("FAIL", "XPASS", "INCONCLUSIVE", "ERROR")),
        "skipped": counts["SKIP"],
    }
    assert "[ERROR]" not in printed

# SPDX-License-Identifier: GPL-2.0
"""A defect's marker hides nothing else: another fault under its test is a FAIL on kernels that have it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from damon_tests.damon.known_defects import the_table
from damon_tests.judge.conclude import conclude
from damon_tests.judge.verdict import Check, Measurement, Verdict
from damon_tests.report import model

ROOT = Path(__file__).resolve().parents[2]

# What is wrong with the reference, at which level, and the marked tests of a file that must notice it.
UNRELATED = (
    ("quota_charged_twice", "7.0", "suites/schemes/test_quota_size.py"),
    ("merge_drops_bytes", "7.0", "suites/monitoring/test_merging.py"),
)


def run_marked(tmp_path: Path, fault: str, level: str, file: str) -> dict[str, Any]:
    command = [
        sys.executable,
        "-m",
        "damon_tests.cli",
        "run",
        f"--kernel=reference:{level}",
        f"--fault={fault}",
    ]
    command += ["--pytest=-m known_defect -p no:cacheprovider", f"--output={tmp_path / 'run'}", file]
    subprocess.run(command, cwd=ROOT, check=False, capture_output=True, timeout=500)
    return model.load(tmp_path / "run")


def checks_of(test: dict[str, Any]) -> list[Check]:
    places = [*test["attempts"], test]
    return [
        Check(
            c["kind"],
            Measurement(c["measurement"]["name"], float(c["measurement"]["value"]), c["measurement"]["unit"]),
            c["limit"],
            c["reason"],
            c["holds"],
            c["detail"],
        )
        for place in places
        for c in place["checks"]
    ]


def keys_of(file: str, test: str) -> list[str]:
    """The keys of the known_defect markers right above a test function."""
    text = (ROOT / file).read_text()
    above = text[: text.index(f"def {test}(")].rsplit("\n\n\n", 1)[-1]
    return re.findall(r"known_defect\(\"([^\"]+)\"\)", above)


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "level", "file"), UNRELATED, ids=[u[0] for u in UNRELATED])
def test_an_unrelated_fault_under_a_marked_test_is_a_fail(
    tmp_path: Path, fault: str, level: str, file: str
) -> None:
    table, judged = the_table(), []
    for test in run_marked(tmp_path, fault, level, file)["tests"]:
        name = test["id"].partition("::")[2].partition("[")[0]
        checks = checks_of(test)
        for key in keys_of(file, name):
            if all(c.holds is not False for c in checks):
                continue  # not a test of this fault
            judged.append(key)
            for releases in table[key].releases:
                series = releases.series
                release = releases.since or f"{series}.0"
                concluded = conclude(checks, None, (), [table[key]], series, release, name)
                assert concluded.verdict is Verdict.FAIL, f"{key} on {release}: {concluded.reason}"
    assert judged, "no marked test noticed the fault"

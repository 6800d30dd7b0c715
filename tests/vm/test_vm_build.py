# SPDX-License-Identifier: GPL-2.0
"""A kernel source from tree to verdict: built, rebuilt, judged, bisected (marked vm and long).

The first run makes about 1,250 files: 15 minutes of one processor, and 10 GB of the cache.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from kernel_history import BAD, UNBUILDABLE, make_history

from damon_tests import cli
from damon_tests.report import model

pytestmark = [pytest.mark.vm, pytest.mark.long]

IDLE = "suites/monitoring/test_idle.py"


@pytest.fixture(scope="module")
def history() -> Path:
    return make_history()


def test_each_commit_is_built_and_judged_and_kunit_passes(history: Path, tmp_path: Path) -> None:
    """From a build to the next commit's verdict; the seconds are printed."""
    began = time.monotonic()
    assert cli.main(["build", "--tree", str(history), "--rev", "c1"]) == 0
    print(f"build: {time.monotonic() - began:.0f} s")
    began = time.monotonic()
    code = cli.main(["gate", "--tree", str(history), "--rev", "c1..c2", "--output", str(tmp_path / "gate")])
    print(f"next commit, built and judged: {time.monotonic() - began:.0f} s")
    assert code == 0
    (commit,) = json.loads((tmp_path / "gate/commits.json").read_text())
    # Beside the file that was changed, the kernel and its boot image are linked anew: 21 to 25 files in all.
    assert commit["compiled"] < 50, "a commit that touches one file compiles few; a full build makes 1,252"
    kunit, suites = (model.load(tmp_path / "gate" / name) for name in commit["runs"])
    assert kunit["counts"]["PASS"] == len(kunit["tests"]) >= 37
    assert suites["counts"]["PASS"] > 0
    assert "Tested-by: A Tester <tester@example.org>" in (tmp_path / "gate/tested-by.txt").read_text()


def test_bisection_finds_the_planted_bug(
    history: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One commit between the ends does not build: it is skipped, and the answer is the same."""
    command = ["bisect", "--tree", str(history), "--good", "c0", "--bad", "c10", "--test", IDLE]
    assert cli.main([*command, "--output", str(tmp_path / "bisect")]) == 0
    assert f"mm/damon/core: change {BAD}" in capsys.readouterr().out.split("first bad commit: ")[1]
    verdicts = json.loads((tmp_path / "bisect/bisect.json").read_text())["verdicts"].values()
    assert {v["state"] for v in verdicts} >= {"good", "bad"}


def test_commit_that_does_not_build_is_a_failure_with_file_and_line(history: Path, tmp_path: Path) -> None:
    code = cli.main(
        ["gate", "--tree", str(history), "--rev", f"c{UNBUILDABLE}", "--output", str(tmp_path / "gate")]
    )
    assert code == 1
    (commit,) = json.loads((tmp_path / "gate/commits.json").read_text())
    assert "DAMON does not build:\n  mm/damon/paddr.c:" in commit["failure"]

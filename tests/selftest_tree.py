# SPDX-License-Identifier: GPL-2.0
"""A small kernel tree with DAMON selftests of ours, and a runner with the options of the kernel's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from damon_tests.report import model

# What the kernel's runner prints for one test, without its settings and its prefixing script.
RUNNER = r"""#!/bin/bash
test=${2#damon:} limit=$4
cd "$(dirname "$0")/damon" || exit 1
echo "TAP version 13"
echo "1..1"
echo "# overriding timeout to $limit"
echo "# selftests: damon: $test"
timeout "$limit" "./$test" 2>&1 | sed 's/^/# /'
code=${PIPESTATUS[0]}
case $code in
0) echo "ok 1 selftests: damon: $test" ;;
4) echo "ok 1 selftests: damon: $test # SKIP" ;;
124) echo "not ok 1 selftests: damon: $test # TIMEOUT $limit seconds" ;;
*) echo "not ok 1 selftests: damon: $test # exit=$code" ;;
esac
"""


def make(tree: Path, programs: Mapping[str, str]) -> Path:
    """Write a tree whose DAMON selftests are these shell scripts (name to body); return it."""
    selftests = tree / "tools/testing/selftests"
    (selftests / "damon").mkdir(parents=True)
    (selftests / "kselftest").mkdir()
    (selftests / "kselftest/runner.sh").write_text("# the runner is in run_kselftest.sh\n")
    (selftests / "run_kselftest.sh").write_text(RUNNER)
    for name, body in programs.items():
        (selftests / "damon" / name).write_text(f"#!/bin/bash\n{body}\n")
    names = list(programs)
    makefile = f"TEST_PROGS = {names[0]}\n" + "".join(f"TEST_PROGS += {name}\n" for name in names[1:])
    (selftests / "damon/Makefile").write_text(makefile + "include ../lib.mk\n")
    return tree


def results_by_program(run: Path) -> dict[str, model.Json]:
    """Return the tests in a run's directory by the names of their programs."""
    return {test["id"].partition("::")[2]: test for test in model.load(run)["tests"]}

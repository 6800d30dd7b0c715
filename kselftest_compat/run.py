#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Compare a run of the kernel's DAMON selftests on the reference with their results on a real 7.3.4.

    python kselftest_compat/run.py [--level 7.3] [TEST…]

Runs ``damon-tests kselftest --kernel reference:LEVEL`` and prints each result beside the real one.
Exit code 0: no test that passes on the real kernel fails here; 1: some test does; 5: all were skipped.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from damon_tests.commands.kselftest import SelftestRequest, kselftest
from damon_tests.ports import DamonTestsError, NotSupported
from damon_tests.report import model

SERIES = "7.3"
VERSION = "7.3.4"

# Results on a real 7.3.4 (in a VM, with sources and kernel of that version). Two failed for lack of drgn.
ON_REAL_KERNEL = {
    "sysfs.sh": "pass",
    "sysfs.py": "fail",
    "sysfs_update_schemes_tried_regions_wss_estimation.py": "pass",
    "damos_quota.py": "pass",
    "damos_quota_goal.py": "pass",
    "damos_apply_interval.py": "pass",
    "damos_tried_regions.py": "pass",
    "damon_nr_regions.py": "pass",
    "sysfs_refresh.py": "pass",
    "reclaim.sh": "pass",
    "lru_sort.sh": "pass",
    "sysfs_update_removed_scheme_dir.sh": "pass",
    "sysfs_update_schemes_tried_regions_hang.py": "pass",
    "sysfs_memcg_path_leak.sh": "pass",
    "sysfs_no_op_commit_break.py": "fail",
}


def as_on_kernel(name: str, verdict: str) -> bool:
    """Return whether a result is at least as good as on a real kernel, or cannot be had here."""
    return verdict in ("PASS", "SKIP") or ON_REAL_KERNEL.get(name) == "fail"


def results(names: Sequence[str], level: str) -> dict[str, dict[str, Any]]:
    """Run selftests on the reference; return their tests of run.json by name. Raises DamonTestsError."""
    with tempfile.TemporaryDirectory(prefix="damon-tests-selftests-") as directory:
        output = Path(directory) / "run"
        with contextlib.redirect_stdout(io.StringIO()):
            kselftest(SelftestRequest(f"reference:{level}", programs=names, output=output))
        run = model.load(output)
    return {test["id"].partition("::")[2]: test for test in run["tests"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--level", default=SERIES)
    parser.add_argument("tests", nargs="*", metavar="TEST", help="default: all")
    args = parser.parse_args()
    names = args.tests or list(ON_REAL_KERNEL)
    worse = skipped = 0
    try:
        print(f"{'test':54} {'7.3.4':6} {'here':12} {'s':>6}")
        for name in names:
            test = results([name], args.level)[name]
            worse += not as_on_kernel(name, test["verdict"])
            skipped += test["verdict"] == "SKIP"
            reason = "" if test["verdict"] == "PASS" else test["reason"]
            real = ON_REAL_KERNEL.get(name, "")
            print(f"{name:54} {real:6} {test['verdict']:12} {test['duration_s']:6.1f} {reason}", flush=True)
    except DamonTestsError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return error.exit_code
    print(f"of {len(names)}, {worse} are worse than on Linux {VERSION}, and {skipped} cannot run here")
    if skipped == len(names):
        return NotSupported.exit_code
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: GPL-2.0
"""The commands of ``damon-tests`` and their options, one module for each subject.

Begin at ``parser``. ``suites``: run, gate, false-alarms, faults. ``builds``: build, kunit, bisect.
``machines``: vm, serve, monitor, workload, doctor. ``authors``: defects, new-test. ``results``: report,
recording. ``costs``: bench, compare, history, explore, savings. ``programs``: truth. ``kselftests``:
kselftest, kselftest-install. ``values``: types of values that several options share.
"""

from __future__ import annotations

import argparse

from damon_tests import __version__
from damon_tests.arguments import authors, builds, costs, kselftests, machines, programs, results, suites
from damon_tests.arguments.values import EXIT_CODES, Command

# In the order of --help.
_ADDED = (
    suites.add_run,
    suites.add_gate,
    builds.add_build,
    builds.add_kunit,
    builds.add_bisect,
    machines.add_vm,
    machines.add_serve,
    machines.add_monitor,
    machines.add_workload,
    machines.add_doctor,
    suites.add_false_alarms,
    suites.add_faults,
    authors.add_defects,
    authors.add_new_test,
    results.add_report,
    results.add_recording,
    costs.add_bench,
    costs.add_compare,
    costs.add_history,
    costs.add_explore,
    costs.add_savings,
    programs.add_truth,
    kselftests.add_kselftest,
    kselftests.add_kselftest_install,
)


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; ``function`` of what it parsed names the one of ``cli`` to call."""
    top = argparse.ArgumentParser(
        prog="damon-tests",
        description="Tests and validation for DAMON, the Linux kernel's Data Access MONitor.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"damon-tests {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND", parser_class=Command)
    for add in _ADDED:
        add(commands)
    return top

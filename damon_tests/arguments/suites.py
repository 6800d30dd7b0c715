# SPDX-License-Identifier: GPL-2.0
"""Options of commands that run suites: ``run``, ``gate``, ``false-alarms``, ``faults``."""

from __future__ import annotations

import argparse

from damon_tests.arguments import builds
from damon_tests.arguments.values import (
    EXIT_CODES,
    GUEST_KERNELS,
    Commands,
    add_output,
    add_overwrite,
    budget_s,
    count,
    duration,
    file,
    shard,
    workers,
)


def add_run(commands: Commands) -> None:
    """Add ``run``: suites on one DAMON."""
    p = commands.add_parser("run", help="run suites on a DAMON and judge it")
    _add_tested(p)
    _add_results(p)
    _add_manner(p)
    p.add_argument(
        "--seed", type=int, metavar="N", help="seed of the run (default: 1; a fresh one where CI is set)"
    )
    p.add_argument(
        "--budget",
        type=budget_s,
        metavar="T",
        help="go on drawing cases and walks for so long after the usual number: 90s, 30min, 2h",
    )
    p.add_argument(
        "--pytest",
        dest="pytest_args",
        action="append",
        default=[],
        metavar="OPTIONS",
        help="options of pytest, such as --pytest='-x -k ageing'",
    )
    p.set_defaults(function="run")


def _add_tested(p: argparse.ArgumentParser) -> None:
    """Add what is tested: suites, and the DAMON with its kernel."""
    p.add_argument("paths", nargs="*", metavar="PATH", help="suites, files or test ids (default: all)")
    p.add_argument(
        "--kernel",
        default="reference",
        metavar="K",
        help=f"reference[:LEVEL] (default), host, {GUEST_KERNELS} (modules: PATH,modules=DIR)",
    )
    p.add_argument("--level", metavar="L", help="judge as this kernel series (default: found out)")
    p.add_argument("--profile", choices=("quick", "full"), default="full")
    p.add_argument("--fault", metavar="NAME", help="make the reference wrong on purpose: which tests notice?")
    p.add_argument("--budgets", metavar="FILE", help="limits on cost that come before ours (YAML)")
    p.add_argument(
        "--stop-modules",
        action="store_true",
        help="with --kernel host: stop DAMON_STAT, DAMON_RECLAIM and DAMON_LRU_SORT, restore them at the end",
    )
    p.add_argument(
        "--keep-guest", action="store_true", help="one guest for all tests, not a pristine one for each"
    )
    p.add_argument(
        "--guest-clock",
        choices=("instructions", "host"),
        help="what time emulated guests see: that of the instructions they execute (default), which is the"
        " same however busy this machine is, or this machine's",
    )
    p.add_argument(
        "--allow-skips",
        type=file,
        metavar="FILE",
        help="a test that cannot run fails, unless FILE allows what it misses (YAML, see ci/skips)",
    )


def _add_results(p: argparse.ArgumentParser) -> None:
    """Add where the results go, and how much is printed."""
    add_output(p)
    add_overwrite(p)
    p.add_argument("--ktap", metavar="FILE", help="also write the results as KTAP; - for stdout")
    p.add_argument(
        "-v", "--verbose", action="count", default=0, help="a line for each test, and their tables"
    )
    p.add_argument("-q", "--quiet", action="count", default=0, help="print the summary only")


def _add_manner(p: argparse.ArgumentParser) -> None:
    """Add how the tests of a kernel are run, by ``run`` and by ``gate``."""
    p.add_argument("--append", metavar="PARAMETERS", help="more parameters for the kernel of a guest")
    p.add_argument("--memory", metavar="SIZE", help="memory of a guest, at least (default 1G)")
    p.add_argument("--cpus", type=count, metavar="N", help="CPUs of a guest, at least (default 2)")
    p.add_argument("--numa", type=count, metavar="N", help="memory nodes of a guest, at least (default 1)")
    p.add_argument("--require", action="store_true", help="a test that cannot run fails")
    p.add_argument(
        "--shard", type=shard, metavar="I/N", help="the I-th of N parts of a kernel's tests, on any machine"
    )
    p.add_argument(
        "-n",
        dest="workers",
        type=workers,
        metavar="WORKERS",
        help="run a kernel's tests in this many processes; auto: as many as do not disturb each other",
    )


def add_gate(commands: Commands) -> None:
    """Add ``gate``: suites on several kernels."""
    p = commands.add_parser(
        "gate",
        help="judge several kernels: one report, one exit code",
        description="Run the suites on each kernel, merge the runs, print what is new against a baseline.",
        epilog=EXIT_CODES,
    )
    p.add_argument(
        "--kernel", action="append", default=[], dest="kernels", metavar="K", help="as for run; repeatable"
    )
    builds.add_tree_options(p, required=False)
    p.add_argument(
        "--rev",
        metavar="REV|A..B",
        help="of --tree: a commit, or every commit of a range, each built and judged",
    )
    p.add_argument(
        "--base", metavar="REV", help="of --tree: changes since this commit choose what runs first"
    )
    p.add_argument("--baseline", metavar="RUN|K", help="an earlier run's directory, or one of the kernels")
    p.add_argument(
        "--profile",
        choices=("quick", "full"),
        help="default: quick; with --rev A..B a few tests for a commit",
    )
    p.add_argument("--select", action="append", default=[], metavar="AREA", help="suites, such as monitoring")
    p.add_argument(
        "--selftests",
        nargs="?",
        const="debian",
        metavar="TREE",
        help="also the kernel's own selftests: those of --tree, else of a kernel tree or (without TREE) of"
        " Debian's source",
    )
    add_output(p)
    p.add_argument("--seed", type=int, metavar="N", help="seed of the runs")
    _add_manner(p)
    p.add_argument("-j", dest="jobs", type=count, default=1, metavar="N", help="this many kernels at once")
    p.set_defaults(function="gate")


def add_false_alarms(commands: Commands) -> None:
    """Add ``false-alarms``: suites on a correct DAMON, many times."""
    p = commands.add_parser(
        "false-alarms",
        help="measure how often the suites accuse a correct DAMON",
        description="Rounds of the tests, each with a fresh seed. FAIL, INCONCLUSIVE and XPASS are alarms,"
        " false ones unless a kernel is wrong; ERROR is counted apart; rounds with any are kept. Prints the"
        " exact 95 % upper bound after each. What was interrupted goes on with the same --output DIR.",
        epilog="exit codes: 0 at most 1 alarm in 1000 · 1 more · 5 no test was judged · 6 some test broke",
    )
    p.add_argument("paths", nargs="*", metavar="PATH", help="suites, files or test ids (default: all)")
    p.add_argument("--runs", type=count, default=5000, metavar="N", help="so many executions (default 5000)")
    p.add_argument("--rounds", type=count, metavar="N", help="at most so often each test")
    p.add_argument("--minutes", type=duration, metavar="N", help="begin no round after so long")
    p.add_argument("--kernel", default="reference", metavar="K", help="as for run; default: the reference")
    p.add_argument("--profile", choices=("quick", "full"), default="full")
    p.add_argument("--first-seed", type=int, default=1000, metavar="N", help="seeds are N, N+1, ...")
    p.add_argument(
        "--output", type=file, metavar="DIR", help="where results are kept; an earlier measurement goes on"
    )
    p.set_defaults(function="false_alarms")


def add_faults(commands: Commands) -> None:
    """Add ``faults``: suites on wrong DAMONs."""
    p = commands.add_parser("faults", help="wrong DAMONs, and which tests notice which")
    p.add_argument("names", nargs="*", metavar="NAME", help="these faults (default: all)")
    p.add_argument("--area", action="append", default=[], metavar="A", help="faults of this area")
    p.add_argument(
        "--kinds", action="store_true", help="print which suite notices which kind of bugs, and end"
    )
    p.add_argument("--run", action="store_true", help="run the suites on each, and print the kill matrix")
    p.add_argument("--suite", action="append", default=[], metavar="PATH", help="only these suites")
    p.add_argument(
        "--output", type=file, metavar="DIR", help="where the matrix goes (default: damon-tests-faults)"
    )
    p.add_argument("-n", dest="workers", type=count, default=1, metavar="N", help="this many faults at once")
    p.add_argument(
        "--first-killer", action="store_true", help="end a fault's run with the first test that notices it"
    )
    p.add_argument("--json", action="store_true", help="print the list for a program")
    p.set_defaults(function="faults")

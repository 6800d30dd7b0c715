# SPDX-License-Identifier: GPL-2.0
"""Arguments of ``damon-tests kselftest`` and ``kselftest-install``."""

from __future__ import annotations

from pathlib import Path

from damon_tests.arguments.values import (
    EXIT_CODES,
    GUEST_KERNELS,
    Commands,
    add_output,
    add_overwrite,
    count,
    file,
)


def add_kselftest(commands: Commands) -> None:
    """Add ``kselftest``: the kernel's selftests, run by us."""
    p = commands.add_parser(
        "kselftest",
        help="the kernel's own DAMON selftests, on a kernel or on the reference",
        description="Run tools/testing/selftests/damon of a kernel tree, each test in a guest of its own, and"
        " judge its KTAP. A pass that tested nothing is named.",
        epilog=EXIT_CODES,
    )
    p.add_argument("tests", nargs="*", metavar="TEST", help="programs, such as damos_quota.py (default: all)")
    p.add_argument(
        "--kernel", default="reference", metavar="K", help=f"reference[:LEVEL] (default), {GUEST_KERNELS}"
    )
    p.add_argument(
        "--source",
        default="debian",
        metavar="TREE",
        help="a kernel tree with selftests; debian (default): the linux-source package that fits the kernel",
    )
    p.add_argument("--timeout", type=count, default=300, metavar="S", help="end a test after S seconds (300)")
    add_output(p)
    add_overwrite(p)
    p.add_argument("--baseline", type=Path, metavar="RUN", help="print what is new against an earlier run")
    p.set_defaults(function="kselftest")


def add_kselftest_install(commands: Commands) -> None:
    """Add ``kselftest-install``: our suites, run by a kernel tree's kselftest."""
    p = commands.add_parser(
        "kselftest-install",
        help="write a directory with which a kernel tree's kselftest runs the suites",
        description="Write Makefile, settings, config and a wrapper for each suite; then"
        " make -C TREE/tools/testing/selftests TARGETS=damon-tests run_tests.",
    )
    p.add_argument("directory", type=file, metavar="DIR", help="TREE/tools/testing/selftests/damon-tests")
    p.add_argument(
        "--kernel", default="host", metavar="K", help="tested by default (default: the running one)"
    )
    p.add_argument("--profile", choices=("quick", "full"), default="quick")
    p.set_defaults(function="kselftest_install")

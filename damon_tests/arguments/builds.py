# SPDX-License-Identifier: GPL-2.0
"""Options of commands that build kernels: ``build``, ``bisect``, ``kunit``, and ``gate --tree``."""

from __future__ import annotations

import argparse
from pathlib import Path

from damon_tests.arguments.values import EXIT_CODES, Commands, add_output, count, file


def add_tree_options(p: argparse.ArgumentParser, *, required: bool) -> None:
    """Add what names a source tree and its configuration."""
    p.add_argument(
        "--tree", type=Path, required=required, metavar="DIR", help="a kernel source tree, or debian:SERIES"
    )
    p.add_argument(
        "--config",
        action="append",
        default=[],
        metavar="FRAGMENT",
        help="guest, damon, memcg, numa (the default: these four), debug, or a file; repeatable, later ones"
        " win; what no fragment names is off",
    )
    p.add_argument("--build-jobs", type=count, metavar="N", help="compile so many files at once")


def add_build(commands: Commands) -> None:
    """Add ``build``: a kernel that guests boot."""
    p = commands.add_parser(
        "build",
        help="build a kernel for the guests from a source tree",
        description="Build out of tree, in the cache; a later build of the same tree, configuration and"
        " compiler compiles only what changed.",
        epilog="exit codes: 0 built · 1 DAMON does not build · 2 usage · 5 no tools · 6 other errors",
    )
    add_tree_options(p, required=True)
    p.add_argument("--rev", metavar="REV", help="a commit of it, checked out elsewhere (default: as it is)")
    p.set_defaults(function="build")


def add_kunit(commands: Commands) -> None:
    """Add ``kunit``: the kernel's own unit tests."""
    p = commands.add_parser(
        "kunit",
        help="run DAMON's KUnit tests of a kernel, at boot in a VM or as User Mode Linux",
        epilog=EXIT_CODES,
    )
    add_tree_options(p, required=False)
    p.add_argument("--kernel", metavar="K", help="a kernel image's path, instead of --tree")
    p.add_argument(
        "--uml", action="store_true", help="build and run User Mode Linux, which needs no guest and no QEMU"
    )
    add_output(p)
    p.add_argument("--append", default="", metavar="PARAMETERS", help="more parameters for the kernel")
    p.set_defaults(function="kunit")


def add_bisect(commands: Commands) -> None:
    """Add ``bisect``: the commit that broke DAMON."""
    p = commands.add_parser(
        "bisect",
        help="find the commit that broke DAMON",
        description="Let git bisect choose commits, build and test each. A commit that does not build or boot"
        " is skipped. What was interrupted goes on with the same --output DIR. The tree stays as it is.",
        epilog="exit codes: 0 found · 2 usage or interrupted · 6 ERROR · 7 several commits are possible",
    )
    add_tree_options(p, required=True)
    p.add_argument("--good", required=True, metavar="REV", help="a commit without the bug")
    p.add_argument("--bad", required=True, metavar="REV", help="a later one with it")
    p.add_argument(
        "--test",
        action="append",
        default=[],
        dest="tests",
        metavar="ID",
        help="a test that shows the bug, of the suites or kunit/SUITE::TEST; repeatable (default: what fails"
        " on --bad and not on --good)",
    )
    p.add_argument(
        "--select", action="append", default=[], metavar="AREA", help="without --test: these suites"
    )
    p.add_argument("--metric", metavar="BENCHMARK:METRIC", help="of bench; bad is a median above --limit")
    p.add_argument("--limit", type=float, metavar="VALUE", help="of --metric, in its unit")
    p.add_argument("--output", type=file, metavar="DIR", help="where log and results go")
    p.add_argument("--seed", type=int, default=1, metavar="N", help="seed of the first run (default 1)")
    p.set_defaults(function="bisect")

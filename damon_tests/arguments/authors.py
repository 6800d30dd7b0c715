# SPDX-License-Identifier: GPL-2.0
"""Options of commands for people who write tests: ``defects`` and ``new-test``."""

from __future__ import annotations

from damon_tests.arguments.values import Commands, file


def add_defects(commands: Commands) -> None:
    """Add ``defects``: what is known to be wrong in kernels."""
    p = commands.add_parser("defects", help="known defects of DAMON, and which kernels have them")
    p.add_argument(
        "--kernel", metavar="K", help="those of a series (6.12), a release (6.12.117), or a kernel as for run"
    )
    p.add_argument("--json", action="store_true", help="print it for a program")
    p.add_argument(
        "--findings",
        nargs="*",
        type=file,
        metavar="RUN",
        help="print FINDINGS.md: all defects, how past bugs are tested, and what these runs show",
    )
    p.set_defaults(function="defects")


def add_new_test(commands: Commands) -> None:
    """Add ``new-test``: the skeleton of a test."""
    p = commands.add_parser("new-test", help="write the skeleton of a test, which passes as it is")
    p.add_argument("name", metavar="NAME", help="what the test shows, such as idle_memory_is_silent")
    p.set_defaults(function="new_test")

# SPDX-License-Identifier: GPL-2.0
"""Options of ``truth``: what a real program accesses, and what DAMON reports of it."""

from __future__ import annotations

import argparse

from damon_tests.arguments.values import (
    EXIT_CODES,
    GUEST_KERNELS,
    Commands,
    add_output,
    add_overwrite,
    count,
    duration,
)


def add_truth(commands: Commands) -> None:
    """Add ``truth``: a real program under exact observation."""
    p = commands.add_parser(
        "truth",
        help="what a real program really accesses, and what DAMON reports of it",
        description="Runs a program in an emulated guest, records every page that it accesses, lets DAMON"
        " watch it meanwhile, and says how accurate DAMON's report is. A program is one of the library"
        " (--program), or a command of Debian's packages, after --.",
        epilog=EXIT_CODES,
    )
    p.add_argument("--program", metavar="NAME", help="of workloads/programs (redis), or a YAML file")
    p.add_argument("--list", action="store_true", help="list the library's programs")
    p.add_argument("--package", action="append", default=[], metavar="P", help="of Debian, for the command")
    p.add_argument("--kernel", default="debian:newest", metavar="K", help=GUEST_KERNELS)
    p.add_argument("--operations", choices=("vaddr", "paddr"), default="vaddr", help="(default: %(default)s)")
    p.add_argument("--warm", type=duration, metavar="S", help="how long the program runs before")
    p.add_argument("--seconds", type=duration, metavar="S", help="how long it is watched")
    p.add_argument(
        "--sample-ms", type=duration, default=5.0, metavar="MS", help="sampling interval (%(default)g)"
    )
    p.add_argument("--aggr-ms", type=duration, default=100.0, metavar="MS", help="aggregation (%(default)g)")
    p.add_argument("--regions", type=count, default=1000, metavar="N", help="limit of regions (%(default)s)")
    p.add_argument("--goal-bp", type=count, metavar="BP", help="tune the intervals to this goal, 0.01 %%")
    p.add_argument("--seed", type=int, default=1, metavar="N")
    add_output(p)
    add_overwrite(p)
    p.add_argument("words", nargs=argparse.REMAINDER, metavar="-- CMD", help="the program and its arguments")
    p.set_defaults(function="truth")

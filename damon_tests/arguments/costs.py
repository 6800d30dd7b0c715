# SPDX-License-Identifier: GPL-2.0
"""Options of commands about DAMON's cost: ``bench``, ``compare``, ``history``, ``explore``, ``savings``."""

from __future__ import annotations

from damon_tests.arguments.values import GUEST_KERNELS, Commands, count, duration, file


def add_bench(commands: Commands) -> None:
    """Add ``bench``: measure a kernel."""
    p = commands.add_parser(
        "bench",
        help="measure what DAMON costs on a kernel, to the instruction",
        description="Benchmarks of a kernel in an emulator that counts its instructions. What was interrupted"
        " goes on with the same --output DIR.",
    )
    p.add_argument("names", nargs="*", metavar="NAME", help="these benchmarks (default: all)")
    p.add_argument("--kernel", default="debian:newest", metavar="K", help=GUEST_KERNELS)
    p.add_argument("--output", type=file, metavar="DIR", help="where samples and call trees go")
    p.add_argument("--seed", type=int, default=1, metavar="N")
    p.add_argument("--history", type=file, metavar="FILE", help="append the run to this file (SQLite)")
    p.add_argument(
        "--show", action="append", default=[], metavar="DIR", help="only print kept runs as a table"
    )
    p.set_defaults(function="bench")


def add_compare(commands: Commands) -> None:
    """Add ``compare``: one kernel against another."""
    p = commands.add_parser(
        "compare",
        help="what became dearer or cheaper from one kernel to another",
        epilog="exit codes: 0 nothing became dearer · 1 something did · 2 usage · 7 some are undecided",
    )
    p.add_argument("before", metavar="A", help="a run's directory, or a kernel to benchmark first")
    p.add_argument("after", metavar="B")
    p.add_argument("--force", action="store_true", help="compare runs that were not taken alike")
    p.add_argument(
        "--flames", type=file, metavar="DIR", help="write differential flame graphs (SVG and folded text)"
    )
    p.add_argument("--seed", type=int, default=1, metavar="N")
    p.set_defaults(function="compare")


def add_history(commands: Commands) -> None:
    """Add ``history``: a metric over many runs."""
    p = commands.add_parser("history", help="a metric over all runs that bench --history kept")
    p.add_argument("metric", nargs="?", metavar="METRIC", help="(default: print which there are)")
    p.add_argument("--file", required=True, metavar="FILE", help="the history (SQLite)")
    p.add_argument("--plot", type=file, metavar="OUT", help="draw it, .png or .svg")
    p.set_defaults(function="history")


def add_explore(commands: Commands) -> None:
    """Add ``explore``: accuracy over cost."""
    p = commands.add_parser(
        "explore",
        help="which intervals and limits show a pattern well, and what they cost",
        description="Monitors a pattern with many attributes, and prints accuracy and cost of each; * marks"
        " those that none beats. On the reference the cost is estimated from what kernels of its series were"
        " measured to need; on a kernel in a guest it is counted.",
    )
    p.add_argument(
        "pattern",
        metavar="PATTERN",
        help="of the library (hot_cold), or a file: YAML, masim's, or a recorded truth (.npz, of truth)",
    )
    p.add_argument("--kernel", default="reference", metavar="K", help="as for run (default: the reference)")
    p.add_argument("--sample-ms", type=duration, nargs="+", metavar="MS", help="sampling intervals to try")
    p.add_argument("--regions", type=count, nargs="+", metavar="N", help="limits of regions to try")
    p.add_argument(
        "--goals-bp",
        type=count,
        nargs="*",
        metavar="BP",
        help="goals to tune intervals for, in 0.01 %% of events",
    )
    p.add_argument(
        "--hot", type=duration, default=0.5, metavar="SHARE", help="hot: touched in so many intervals"
    )
    p.add_argument(
        "--hot-ms", type=duration, default=5.0, metavar="MS", help="of this length (default %(default)g)"
    )
    p.add_argument(
        "--seconds", type=duration, default=20.0, metavar="S", help="each time (default %(default)g)"
    )
    p.add_argument("--attempts", type=count, default=3, metavar="N", help="for each (default %(default)s)")
    p.add_argument("--seed", type=int, default=1, metavar="N")
    p.add_argument("--json", type=file, metavar="FILE", help="write all of it for a program; - for stdout")
    p.add_argument("--picture", type=file, metavar="FILE", help="draw it, .svg or .png")
    p.set_defaults(function="explore")


def add_savings(commands: Commands) -> None:
    """Add ``savings``: what schemes save."""
    p = commands.add_parser(
        "savings",
        help="what DAMON's schemes save, and how much they slow the workload down",
        description="Runs workloads in emulated guests, each under a scheme of DAMON and without, and prints"
        " memory saved, slowdown in the workload's own instructions, and refaults.",
    )
    p.add_argument(
        "uses",
        nargs="*",
        metavar="USE",
        help="reclaim, hugepage, lru_sort, tiering (default: all)",
    )
    p.add_argument("--kernel", default="debian:newest", metavar="K", help=GUEST_KERNELS)
    p.add_argument(
        "--workload",
        action="append",
        default=[],
        metavar="W",
        help="a program (redis, xz), a pattern or its file, instead of the use's own; may be repeated",
    )
    p.add_argument("--repeats", type=count, default=3, metavar="N", help="pairs (default %(default)s)")
    p.add_argument(
        "--settle",
        type=duration,
        default=6.0,
        metavar="S",
        help="seconds of the guest that DAMON works before anything is measured (default %(default)g)",
    )
    p.add_argument(
        "--seconds", type=duration, default=2.0, metavar="S", help="that are measured (default %(default)g)"
    )
    p.add_argument("--seed", type=int, default=1, metavar="N")
    p.add_argument(
        "--json",
        type=file,
        metavar="FILE",
        help="write all of it for a program, - for stdout; what was interrupted goes on with the same FILE",
    )
    p.add_argument("--picture", type=file, metavar="FILE", help="draw it, .svg or .png")
    p.add_argument(
        "--beside", type=file, metavar="REPORT", help="also print this text report of damon-tests/perf"
    )
    p.add_argument(
        "--show",
        action="append",
        type=file,
        default=[],
        metavar="FILE",
        help="run nothing: print and draw what --json kept; may be repeated",
    )
    p.set_defaults(function="savings")

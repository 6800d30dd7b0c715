# SPDX-License-Identifier: GPL-2.0
"""Options of commands that show results: ``report`` and ``recording``."""

from __future__ import annotations

import argparse

from damon_tests.arguments.values import EXIT_CODES, Commands, count, file


def add_report(commands: Commands) -> None:
    """Add ``report``: a finished run."""
    p = commands.add_parser("report", help="print a finished run again")
    p.add_argument("directory", metavar="DIR", help="the run's output directory")
    p.add_argument("test", nargs="?", metavar="TEST", help="all about the tests with this in their id")
    view = p.add_mutually_exclusive_group()
    for name, what in (
        ("failed", "only what did not hold"),
        ("figures", "only the tables that tests made"),
        ("matrix", "capabilities against the DAMONs that were tested"),
    ):
        view.add_argument(f"--{name}", nargs="?", const="", metavar="TEST", help=what)
    _add_upstream(p, view)
    _add_outputs(p)
    p.add_argument(
        "--merge",
        type=file,
        nargs="+",
        default=[],
        metavar="RUN",
        help="first put these runs together in DIR: shards of one, or runs of several kernels",
    )
    p.set_defaults(function="report")


def _add_upstream(p: argparse.ArgumentParser, view: argparse._MutuallyExclusiveGroup) -> None:
    """Add the options of reports of a failure to its maintainers."""
    for name, what in (("mail", "a mail to DAMON's maintainers"), ("github", "the issue in Markdown")):
        view.add_argument(
            f"--{name}",
            nargs="?",
            const="",
            metavar="TEST",
            help=f"print a failed test as {what}, with a reproducer; nothing is sent",
        )
    p.add_argument(
        "--tree", metavar="DIR", help="with --mail: a kernel tree, whose MAINTAINERS has the addresses"
    )
    p.add_argument(
        "--bisection",
        type=file,
        metavar="DIR",
        help="with --mail or --github: add the answer of damon-tests bisect, whose output this is",
    )
    p.add_argument(
        "--regzbot",
        nargs="?",
        const="",
        metavar="COMMIT|A..B",
        help="with --mail or --github: name what introduced a regression for the kernel's regression tracker"
        " (default: the answer of --bisection)",
    )
    p.add_argument(
        "--symbols",
        action="store_true",
        help="with --mail or --github: files and lines in call traces, from the -dbg package of a Debian"
        " kernel (350 MB, fetched once)",
    )


def _add_outputs(p: argparse.ArgumentParser) -> None:
    """Add the options for files that a finished run becomes."""
    for name, what in (
        ("html", "one self-contained page"),
        ("junit", "JUnit XML"),
        ("json", "run.json"),
        ("ktap", "KTAP"),
        ("tap", "TAP 14"),
        ("kcidb", "JSON of KCIDB"),
    ):
        p.add_argument(f"--{name}", type=file, metavar="FILE", help=f"also write {what}; - for stdout")
    for name in ("png", "svg"):
        p.add_argument(
            f"--{name}",
            type=file,
            metavar="PICTURES",
            help=f"also write every picture as {name.upper()} to this directory: heat maps of all recordings,"
            " charts of what did not hold",
        )
    p.add_argument(
        "--kcidb-build",
        default="",
        metavar="ID",
        help="with --kcidb: the build that was tested, as KCIDB has it",
    )


def add_recording(commands: Commands) -> None:
    """Add ``recording``: one recording."""
    group = commands.add_parser(
        "recording",
        help="show, convert or judge one recording: ours, or a file of damo",
        description="FILE is a recording of ours (recording.npz in a run's directory), or a file of damo:"
        " JSON, compressed or not, or the text of perf script.",
    )
    actions = group.add_subparsers(required=True, metavar="ACTION", dest="action")
    show = actions.add_parser("show", help="a heat map: what DAMON saw, what really happened, the difference")
    export = actions.add_parser("export", help="write it for another tool")
    import_ = actions.add_parser("import", help="make a recording of ours from a file of damo")
    judge = actions.add_parser(
        "judge", help="the invariants that need no workload; exit code as of a test", epilog=EXIT_CODES
    )
    for p in (show, export, import_, judge):
        p.add_argument("file", metavar="FILE")
        p.set_defaults(function="recording")
    for p in (show, import_, judge):
        p.add_argument("--select", type=int, metavar="N", help="which of a file's recordings")
    for p in (import_, judge):
        p.add_argument(
            "--intervals",
            type=count,
            nargs=2,
            metavar=("SAMPLE_US", "AGGR_US"),
            help="where the file does not say",
        )
    compare = actions.add_parser("compare", help="two recordings side by side, and their difference")
    compare.add_argument("file", metavar="A")
    compare.add_argument("other", metavar="B")
    compare.set_defaults(function="recording")
    _add_looks(show, compare)
    _add_conversion(export, import_)
    _add_rules(judge)


def _add_looks(show: argparse.ArgumentParser, compare: argparse.ArgumentParser) -> None:
    show.add_argument(
        "--truth",
        action=argparse.BooleanOptionalAction,
        help="what really happened, too (default: when it is in the file)",
    )
    for p in (show, compare):
        p.add_argument(
            "--png", type=file, metavar="OUT", help="write a picture, .png or .svg, instead of text"
        )
        p.add_argument(
            "--width", type=count, metavar="N", help="columns of the text (default: the terminal's)"
        )
        p.add_argument(
            "--target", type=int, default=0, metavar="N", help="position of the target (default 0)"
        )


def _add_conversion(export: argparse.ArgumentParser, import_: argparse.ArgumentParser) -> None:
    export.add_argument("--to", choices=("damo",), required=True, help="whose format")
    export.add_argument(
        "--format", choices=("json_compressed", "json", "perf_script"), default="json_compressed"
    )
    export.add_argument("out", type=file, metavar="OUT")
    import_.add_argument("out", type=file, metavar="OUT")


def _add_rules(judge: argparse.ArgumentParser) -> None:
    judge.add_argument("--level", metavar="L", help="kernel series that made it")
    judge.add_argument(
        "--nr-regions", type=count, nargs=2, metavar=("MIN", "MAX"), help="the limits asked for"
    )
    judge.add_argument("--ops", choices=("vaddr", "fvaddr", "paddr"), help="the operations set")

# SPDX-License-Identifier: GPL-2.0
"""What the ``damon-tests`` command understands: its commands, their options, and what is wrong with them."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any, TypeAlias

from damon_tests import __version__

EXIT_CODES = """exit codes: 0 good · 1 FAIL, or an XFAIL that passes · 2 usage or interrupted ·
5 nothing ran · 6 ERROR (harness, guest or workload broke) · 7 INCONCLUSIVE"""


class _Command(argparse.ArgumentParser):
    """A command's parser: what it does not know is its own error, with its own usage."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            hint = "; options of pytest are given as --pytest='OPTIONS'" if self.prog.endswith(" run") else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return parsed, unknown


# Annotations are not evaluated, this would be.
_Commands: TypeAlias = "argparse._SubParsersAction[_Command]"


def _count(text: str) -> int:
    """How many of something: 1 or more."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def _duration(text: str) -> float:
    """How long, in whatever unit: more than 0, and not for ever."""
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no time: give more than 0")
    return number


def _file(text: str) -> Path:
    """The name of a file or directory to write."""
    if not text:
        raise argparse.ArgumentTypeError("an empty name is no place to write to")
    return Path(text)


def _workers(text: str) -> str:
    """xdist's ``-n``: a number (0: all tests in this process), or a word of its own."""
    if text not in ("auto", "logical") and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor auto")
    return text


# argparse calls them so: "invalid number value: 'x'".
_count.__name__, _duration.__name__ = "number", "number"


def parser() -> argparse.ArgumentParser:
    """Of all commands; ``function`` of what it parsed names the one of ``cli`` to call."""
    top = argparse.ArgumentParser(
        prog="damon-tests",
        description="Tests and validation for DAMON, the Linux kernel's Data Access MONitor.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"damon-tests {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND", parser_class=_Command)
    _add_run(commands)
    _add_gate(commands)
    _add_vm(commands)
    _add_serve(commands)
    _add_monitor(commands)
    _add_workload(commands)

    p = commands.add_parser("doctor", help="what this machine and kernel can do, and which suites would run")
    p.add_argument("--json", action="store_true", help="print it for a program")
    p.set_defaults(function="doctor")

    p = commands.add_parser(
        "false-alarms",
        help="measure how often the suites accuse a correct DAMON",
        description="Rounds of the tests, each with a fresh seed. FAIL, INCONCLUSIVE and XPASS are alarms,"
        " false ones unless a kernel is wrong; ERROR is counted apart; rounds with any are kept. Prints the"
        " exact 95 % upper bound after each. What was interrupted goes on with the same --output DIR.",
        epilog="exit codes: 0 at most 1 alarm in 1000 · 1 more · 5 no test was judged · 6 some test broke",
    )
    p.add_argument("paths", nargs="*", metavar="PATH", help="suites, files or test ids (default: all)")
    p.add_argument("--runs", type=_count, default=5000, metavar="N", help="so many executions (default 5000)")
    p.add_argument("--rounds", type=_count, metavar="N", help="at most so often each test")
    p.add_argument("--minutes", type=_duration, metavar="N", help="begin no round after so long")
    p.add_argument("--kernel", default="reference", metavar="K", help="as for run; default: the reference")
    p.add_argument("--profile", choices=("quick", "full"), default="full")
    p.add_argument("--first-seed", type=int, default=1000, metavar="N", help="seeds are N, N+1, ...")
    p.add_argument(
        "--output", type=_file, metavar="DIR", help="where results are kept; an earlier measurement goes on"
    )
    p.set_defaults(function="false_alarms")

    p = commands.add_parser("faults", help="wrong DAMONs, and which tests notice which")
    p.add_argument("names", nargs="*", metavar="NAME", help="these faults (default: all)")
    p.add_argument("--area", action="append", default=[], metavar="A", help="faults of this area")
    p.add_argument("--run", action="store_true", help="run the suites on each, and print the kill matrix")
    p.add_argument("--suite", action="append", default=[], metavar="PATH", help="only these suites")
    p.add_argument(
        "--output", type=_file, default="damon-tests-faults", metavar="DIR", help="where the matrix goes"
    )
    p.add_argument("-n", dest="workers", type=_count, default=1, metavar="N", help="this many faults at once")
    p.add_argument(
        "--first-killer", action="store_true", help="end a fault's run with the first test that notices it"
    )
    p.add_argument("--json", action="store_true", help="print the list for a program")
    p.set_defaults(function="faults")

    p = commands.add_parser("defects", help="known defects of DAMON, and which kernels have them")
    p.add_argument(
        "--kernel", metavar="K", help="those of a series (6.12), a release (6.12.117), or a kernel as for run"
    )
    p.add_argument("--json", action="store_true", help="print it for a program")
    p.set_defaults(function="defects")

    p = commands.add_parser("new-test", help="write the skeleton of a test, which passes as it is")
    p.add_argument("name", metavar="NAME", help="what the test shows, such as idle_memory_is_silent")
    p.set_defaults(function="new_test")

    _add_report(commands)
    _add_recording(commands)
    _add_bench(commands)
    return top


def _add_report(commands: _Commands) -> None:
    p = commands.add_parser("report", help="print a finished run again")
    p.add_argument("directory", metavar="DIR", help="the run's output directory")
    p.add_argument("test", nargs="?", metavar="TEST", help="all about the tests with this in their id")
    view = p.add_mutually_exclusive_group()
    for name, what in (
        ("failed", "only what did not hold"),
        ("figures", "only the tables that tests made"),
        ("matrix", "capabilities against the DAMONs that were tested"),
    ):
        view.add_argument(f"--{name}", dest="view", action="store_const", const=name, help=what)
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
    for name, what in (
        ("html", "one self-contained page"),
        ("junit", "JUnit XML"),
        ("json", "run.json"),
        ("ktap", "KTAP"),
    ):
        p.add_argument(f"--{name}", type=_file, metavar="FILE", help=f"also write {what}; - for stdout")
    p.add_argument(
        "--merge",
        type=_file,
        nargs="+",
        default=[],
        metavar="RUN",
        help="first put these runs together in DIR: shards of one, or runs of several kernels",
    )
    p.set_defaults(function="report")


def _add_run(commands: _Commands) -> None:
    p = commands.add_parser("run", help="run suites on a DAMON and judge it")
    p.add_argument("paths", nargs="*", metavar="PATH", help="suites, files or test ids (default: all)")
    p.add_argument(
        "--kernel",
        default="reference",
        metavar="K",
        help="reference[:LEVEL] (default), debian:SERIES|stable|newest, host, or a kernel image's path"
        " (modules: PATH,modules=DIR)",
    )
    p.add_argument("--level", metavar="L", help="judge as this kernel series (default: found out)")
    p.add_argument("--profile", choices=("quick", "full"), default="full")
    p.add_argument("--output", type=_file, metavar="DIR", help="where results go (default: a new directory)")
    p.add_argument("--overwrite", action="store_true", help="replace the results that --output holds")
    p.add_argument("--seed", type=int, metavar="N", help="seed of the run (default: 1)")
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
    p.add_argument("--append", metavar="PARAMETERS", help="more parameters for the kernel of a guest")
    p.add_argument("--require", action="store_true", help="a test that cannot run fails")
    p.add_argument("--shard", metavar="I/N", help="the I-th of N parts of the tests, the same on any machine")
    p.add_argument("--ktap", metavar="FILE", help="also write the results as KTAP; - for stdout")
    p.add_argument(
        "-n",
        dest="workers",
        type=_workers,
        metavar="WORKERS",
        help="run tests in this many processes; auto: as many as do not disturb each other",
    )
    p.add_argument(
        "--pytest",
        dest="pytest_args",
        action="append",
        default=[],
        metavar="OPTIONS",
        help="options of pytest, such as --pytest='-x -k ageing'",
    )
    p.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=0,
        help="a line for each test, and their tables",
    )
    p.add_argument("-q", "--quiet", action="count", default=0, help="print the summary only")
    p.set_defaults(function="run")


def _add_gate(commands: _Commands) -> None:
    p = commands.add_parser(
        "gate",
        help="judge several kernels: one report, one exit code",
        description="Run the suites on each kernel, merge the runs, print what is new against a baseline.",
        epilog=EXIT_CODES,
    )
    p.add_argument(
        "--kernel", action="append", default=[], dest="kernels", metavar="K", help="as for run; repeatable"
    )
    p.add_argument("--baseline", metavar="RUN|K", help="an earlier run's directory, or one of the kernels")
    p.add_argument("--profile", choices=("quick", "full"), default="quick")
    p.add_argument("--select", action="append", default=[], metavar="AREA", help="suites, such as monitoring")
    p.add_argument("--output", type=_file, metavar="DIR", help="where results go (default: a new directory)")
    p.add_argument("--seed", type=int, metavar="N", help="seed of the runs")
    p.add_argument("--shard", metavar="I/N", help="the I-th of N parts of each kernel's tests")
    p.add_argument("--append", metavar="PARAMETERS", help="more parameters for the kernels")
    p.add_argument("--require", action="store_true", help="a test that cannot run fails")
    p.add_argument("-j", dest="jobs", type=_count, default=1, metavar="N", help="this many kernels at once")
    p.add_argument("-n", dest="workers", type=_workers, metavar="WORKERS", help="processes for each kernel")
    p.set_defaults(function="gate")


def _add_vm(commands: _Commands) -> None:
    p = commands.add_parser("vm", help="a shell, or one command, on a kernel in a VM")
    p.add_argument(
        "--kernel", required=True, metavar="K", help="debian:SERIES|stable|newest, or a kernel image's path"
    )
    p.add_argument("--memory", default="1G", metavar="SIZE", help="guest memory (default 1G)")
    p.add_argument("--cpus", type=_count, default=2, metavar="N")
    p.add_argument("--numa", type=_count, default=1, metavar="N", help="NUMA nodes")
    p.add_argument("--append", default="", metavar="PARAMETERS", help="more kernel parameters")
    p.add_argument("command", nargs="*", metavar="CMD", help="after --: what to run instead of a shell")
    p.set_defaults(function="vm")


def _add_serve(commands: _Commands) -> None:
    p = commands.add_parser(
        "serve",
        help="the reference's tree as real files, for programs that know nothing of it",
        description="Serve the reference's tree as files. It knows the simulated processes that it names, and"
        " any real process: mappings are read, accesses are watched as far as that is possible.",
    )
    p.add_argument("--level", default="7.3", metavar="L", help="kernel series to be like (default 7.3)")
    p.add_argument("--seed", type=int, default=0, metavar="N")
    p.add_argument(
        "--transport",
        choices=("auto", "direct", "library"),
        default="auto",
        help="with --at: speak to /dev/fuse (root), or through libfuse3 and mfusepy",
    )
    where = p.add_mutually_exclusive_group(required=True)
    where.add_argument("--at", metavar="DIR", help="mount at an empty directory until interrupted")
    where.add_argument(
        "--exec",
        dest="command",
        nargs=argparse.REMAINDER,
        metavar="CMD",
        help="run a command that sees it at /sys/kernel/mm/damon, in namespaces of its own; must be last",
    )
    p.set_defaults(function="serve")


def _add_recording(commands: _Commands) -> None:
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
            type=_count,
            nargs=2,
            metavar=("SAMPLE_US", "AGGR_US"),
            help="where the file does not say",
        )
    show.add_argument(
        "--truth",
        action=argparse.BooleanOptionalAction,
        help="what really happened, too (default: when it is in the file)",
    )
    show.add_argument(
        "--png", type=_file, metavar="OUT", help="write a picture, .png or .svg, instead of text"
    )
    show.add_argument(
        "--width", type=_count, metavar="N", help="columns of the text (default: the terminal's)"
    )
    show.add_argument("--target", type=int, default=0, metavar="N", help="position of the target (default 0)")
    export.add_argument("--to", choices=("damo",), required=True, help="whose format")
    export.add_argument(
        "--format", choices=("json_compressed", "json", "perf_script"), default="json_compressed"
    )
    export.add_argument("out", type=_file, metavar="OUT")
    import_.add_argument("out", type=_file, metavar="OUT")
    judge.add_argument("--level", metavar="L", help="kernel series that made it")
    judge.add_argument(
        "--nr-regions", type=_count, nargs=2, metavar=("MIN", "MAX"), help="the limits asked for"
    )
    judge.add_argument("--ops", choices=("vaddr", "fvaddr", "paddr"), help="the operations set")


def _add_bench(commands: _Commands) -> None:
    """``bench``, ``compare`` and ``history``."""
    p = commands.add_parser(
        "bench",
        help="measure what DAMON costs on a kernel, to the instruction",
        description="Benchmarks of a kernel in an emulator that counts its instructions. What was interrupted"
        " goes on with the same --output DIR.",
    )
    p.add_argument("names", nargs="*", metavar="NAME", help="these benchmarks (default: all)")
    p.add_argument("--kernel", default="debian:newest", metavar="K", help="debian:SERIES, or an image's path")
    p.add_argument("--output", type=_file, metavar="DIR", help="where samples and call trees go")
    p.add_argument("--seed", type=int, default=1, metavar="N")
    p.add_argument("--history", type=_file, metavar="FILE", help="append the run to this file (SQLite)")
    p.add_argument(
        "--show", action="append", default=[], metavar="DIR", help="only print kept runs as a table"
    )
    p.set_defaults(function="bench")

    p = commands.add_parser(
        "compare",
        help="what became dearer or cheaper from one kernel to another",
        epilog="exit codes: 0 nothing became dearer · 1 something did · 2 usage · 7 some cannot be told",
    )
    p.add_argument("before", metavar="A", help="a run's directory, or a kernel to benchmark first")
    p.add_argument("after", metavar="B")
    p.add_argument("--force", action="store_true", help="compare runs that were not taken alike")
    p.add_argument(
        "--flames", type=_file, metavar="DIR", help="write differential flame graphs (SVG and folded text)"
    )
    p.add_argument("--seed", type=int, default=1, metavar="N")
    p.set_defaults(function="compare")

    p = commands.add_parser("history", help="a metric over all runs that bench --history kept")
    p.add_argument("metric", nargs="?", metavar="METRIC", help="(default: print which there are)")
    p.add_argument("--file", required=True, metavar="FILE", help="the history (SQLite)")
    p.add_argument("--plot", type=_file, metavar="OUT", help="draw it, .png or .svg")
    p.set_defaults(function="history")


def _add_monitor(commands: _Commands) -> None:
    p = commands.add_parser("monitor", help="watch a real process with the reference, live")
    p.add_argument(
        "--reference",
        required=True,
        metavar="PID|PATTERN",
        help="a process of yours, or a pattern (hot_cold, a file) to run and to watch",
    )
    p.add_argument("--level", default="7.3", metavar="L", help="kernel series to be like (default 7.3)")
    p.add_argument(
        "--operations",
        default="auto",
        metavar="SET",
        help="how accesses are found out: auto (default), cooperative, writes, page_idle",
    )
    p.add_argument(
        "--seconds", type=_duration, metavar="S", help="how long (default: until it ends, or Ctrl-C)"
    )
    p.add_argument("--record", type=_file, metavar="FILE", help="also write what was seen (.damon.npz)")
    p.add_argument("--seed", type=int, default=0, metavar="N")
    p.set_defaults(function="monitor")


def _add_workload(commands: _Commands) -> None:
    p = commands.add_parser("workload", help="a real process performs a pattern, and says where and what")
    p.add_argument(
        "pattern", metavar="PATTERN", help="of the library (hot_cold), or a file: YAML, or masim's"
    )
    p.add_argument("--seconds", type=_duration, metavar="S", help="how long (default: to its end, or Ctrl-C)")
    p.add_argument("--seed", type=int, default=0, metavar="N")
    p.add_argument(
        "--hints",
        choices=("none", "madvise", "mlock"),
        default="none",
        help="of a masim configuration: advise or lock what is hot in each phase (masim's -t)",
    )
    p.add_argument("--hugetlb", action="store_true", help="of a masim configuration: huge pages (masim's -h)")
    p.add_argument(
        "--mode",
        choices=("ro", "wo", "rw"),
        default="wo",
        help="of a masim configuration: of lines that name none (masim's -r)",
    )
    p.add_argument(
        "--times", type=_count, default=1, metavar="N", help="of a masim configuration: N times (masim's -c)"
    )
    p.set_defaults(function="workload")

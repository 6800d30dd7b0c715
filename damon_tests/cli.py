# SPDX-License-Identifier: GPL-2.0
"""The ``damon-tests`` command: reads arguments and calls what does the work.

Modules are imported by the command that needs them, so that ``damon-tests --help`` is instant
and a missing extra only matters to the command that uses it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from damon_tests import __version__, bundle
from damon_tests.ports.errors import DamonTestsError, UsageError

EXIT_CODES = """exit codes: 0 good · 1 FAIL, or an XFAIL that passes · 2 usage or interrupted ·
5 nothing ran · 6 ERROR (harness, guest or workload broke) · 7 INCONCLUSIVE"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    args = _parser().parse_args(argv)
    try:
        code: int = args.function(args)
    except DamonTestsError as error:
        print(f"damon-tests: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # The reader (a pager, head) went away: nothing is left to tell it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("damon-tests: interrupted", file=sys.stderr)
        return 2
    return code


def run(args: argparse.Namespace) -> int:
    """``damon-tests run``: the suites, through pytest with our plugin."""
    import pytest

    paths = [_suite_path(p) for p in args.paths] or [str(bundle.suites_dir())]
    options = ["-p", "damon_tests.plugin", *_configuration(paths)]
    options += [f"--kernel={args.kernel}", f"--profile={args.profile}"]
    for name in ("level", "output", "seed", "fault", "guest_clock"):
        if getattr(args, name) is not None:
            options.append(f"--{name.replace('_', '-')}={getattr(args, name)}")
    options += ["--require"] if args.require else []
    options += ["--stop-modules"] if args.stop_modules else []
    options += ["--keep-guest"] if args.keep_guest else []
    if args.workers is not None:
        options += ["-n", args.workers]
    code = int(pytest.main([*options, *args.pytest_args, *paths]))
    return 2 if code == pytest.ExitCode.USAGE_ERROR else code


def vm(args: argparse.Namespace) -> int:
    """``damon-tests vm``: a shell or a command on a real kernel."""
    from damon_tests.kernel import vm as kernel_vm

    return kernel_vm.run(
        args.kernel, memory=args.memory, cpus=args.cpus, numa=args.numa, command=args.command or None
    )


def doctor(args: argparse.Namespace) -> int:
    """``damon-tests doctor``: what can be tested on this machine, and what not."""
    from damon_tests.report import doctor as report_doctor

    return report_doctor.show(as_json=args.json)


def report(args: argparse.Namespace) -> int:
    """``damon-tests report DIR``: a finished run again."""
    from damon_tests.report import show

    return show.show(Path(args.directory), html=args.html)


def serve(args: argparse.Namespace) -> int:
    """``damon-tests serve``: the reference as real files, at a directory or around a command."""
    from damon_tests.reference import serve as reference_serve

    if args.command is not None:
        return reference_serve.around(args.command, args.level, seed=args.seed)
    return reference_serve.at(args.at, args.level, transport=args.transport, seed=args.seed)


def recording(args: argparse.Namespace) -> int:
    """``damon-tests recording``: what DAMON saw, shown, converted, judged."""
    from damon_tests.judge.recorded import Request
    from damon_tests.report import recordings

    path = Path(args.file)
    intervals = tuple(args.intervals) if getattr(args, "intervals", None) else None
    if args.action == "show":
        return recordings.show(
            path,
            truth=args.truth,
            png=Path(args.png) if args.png else None,
            width=args.width,
            target=args.target,
            select=args.select,
        )
    if args.action == "export":
        return recordings.export(path, Path(args.out), args.format)
    if args.action == "import":
        return recordings.import_(path, Path(args.out), select=args.select, intervals=intervals)
    limits = tuple(args.nr_regions) if args.nr_regions else None
    return recordings.judge(path, Request(args.level, limits, intervals, args.ops), select=args.select)


def false_alarms(args: argparse.Namespace) -> int:
    """``damon-tests false-alarms``: how often the suites accuse a correct DAMON."""
    from damon_tests.report import artifacts
    from damon_tests.report import false_alarms as measured

    output = Path(args.output) if args.output else artifacts.new_directory()
    paths = [_suite_path(p) for p in args.paths]
    seconds = None if args.minutes is None else args.minutes * 60
    limits = measured.Limits(args.runs, args.rounds, seconds)
    return measured.show(args.kernel, limits, output, paths, args.first_seed, args.profile)


def faults(args: argparse.Namespace) -> int:
    """``damon-tests faults``: wrong DAMONs, and which tests notice which."""
    from damon_tests.report import kill

    if not args.run:
        return kill.show(args.names, args.area, as_json=args.json)
    paths = [_suite_path(p) for p in args.suite]
    return kill.run(
        args.names,
        args.area,
        paths,
        output=Path(args.output),
        workers=args.workers,
        first_killer=args.first_killer,
    )


def monitor(args: argparse.Namespace) -> int:
    """``damon-tests monitor``: the reference watches a real process."""
    from damon_tests.report import monitor as report_monitor

    return report_monitor.monitor(
        args.reference,
        level=args.level,
        operations=args.operations,
        seconds=args.seconds,
        record=None if args.record is None else Path(args.record),
        seed=args.seed,
    )


def workload(args: argparse.Namespace) -> int:
    """``damon-tests workload``: a real process performs a pattern."""
    from damon_tests.report import play

    return play.play(
        args.pattern, seconds=args.seconds, seed=args.seed, hints=args.hints, hugetlb=args.hugetlb
    )


def _configuration(paths: Sequence[str]) -> list[str]:
    """pytest's root and configuration: ids are the same in a checkout and from a wheel.

    Tests that are not of this project get ids from here, so that the same command finds them again.
    """
    root = bundle.root()
    ours = any(Path(p.split("::", 1)[0]).resolve().is_relative_to(root) for p in paths)
    if ours and (root / "pyproject.toml").is_file():
        return [f"--rootdir={root}", f"--config-file={root / 'pyproject.toml'}"]
    # Without a configuration of its own; and the wheel's directory may not be writable.
    root = root if ours else Path.cwd()
    return [f"--rootdir={root}", f"--config-file={os.devnull}", "-p", "no:cacheprovider", "--strict-markers"]


def _suite_path(text: str) -> str:
    """A path as given, else the same below the checkout's or wheel's own suites."""
    path = text.split("::", 1)[0]
    if Path(path).exists():
        return text
    if (bundle.root() / path).exists():
        return str(bundle.root() / text)
    raise UsageError(f"no such test file or directory: {path} (suites are in {bundle.suites_dir()})")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="damon-tests",
        description="Tests and validation for DAMON, the Linux kernel's Data Access MONitor.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"damon-tests {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands)
    _add_vm(commands)
    _add_serve(commands)
    _add_monitor(commands)
    _add_workload(commands)

    p = commands.add_parser("doctor", help="what this machine and kernel can do, and which suites would run")
    p.add_argument("--json", action="store_true", help="print it for a program")
    p.set_defaults(function=doctor)

    p = commands.add_parser("false-alarms", help="measure how often the suites accuse a correct DAMON")
    p.add_argument("paths", nargs="*", metavar="PATH", help="suites, files or test ids (default: all)")
    p.add_argument("--runs", type=int, default=5000, metavar="N", help="test executions (default 5000)")
    p.add_argument("--rounds", type=int, metavar="N", help="at most so often each test")
    p.add_argument("--minutes", type=float, metavar="N", help="begin no round after so long")
    p.add_argument("--kernel", default="reference", metavar="K", help="as for run; default: the reference")
    p.add_argument("--profile", choices=("quick", "full"), default="full")
    p.add_argument("--first-seed", type=int, default=1000, metavar="N", help="seeds are N, N+1, ...")
    p.add_argument("--output", metavar="DIR", help="where results are kept; an earlier measurement goes on")
    p.set_defaults(function=false_alarms)

    p = commands.add_parser("faults", help="wrong DAMONs, and which tests notice which")
    p.add_argument("names", nargs="*", metavar="NAME", help="these faults (default: all)")
    p.add_argument("--area", action="append", default=[], metavar="A", help="faults of this area")
    p.add_argument("--run", action="store_true", help="run the suites on each, and print the kill matrix")
    p.add_argument("--suite", action="append", default=[], metavar="PATH", help="only these suites")
    p.add_argument("--output", default="damon-tests-faults", metavar="DIR", help="where the matrix goes")
    p.add_argument("-n", dest="workers", type=int, default=1, metavar="N", help="this many faults at once")
    p.add_argument(
        "--first-killer", action="store_true", help="end a fault's run with the first test that notices it"
    )
    p.add_argument("--json", action="store_true", help="print the list for a program")
    p.set_defaults(function=faults)

    p = commands.add_parser("report", help="print a finished run again")
    p.add_argument("directory", metavar="DIR", help="the run's output directory")
    p.add_argument("--html", metavar="FILE", help="also write one self-contained page")
    p.set_defaults(function=report)
    _add_recording(commands)
    return parser


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    p = commands.add_parser("run", help="run suites on a DAMON and judge it")
    p.add_argument("paths", nargs="*", metavar="PATH", help="suites, files or test ids (default: all)")
    p.add_argument(
        "--kernel",
        default="reference",
        metavar="K",
        help="reference[:LEVEL] (default), debian:SERIES|stable|newest, a kernel image's path, or host",
    )
    p.add_argument("--level", metavar="L", help="judge as this kernel series (default: found out)")
    p.add_argument("--profile", choices=("quick", "full"), default="full")
    p.add_argument("--output", metavar="DIR", help="where results go (default: a new directory)")
    p.add_argument("--seed", type=int, metavar="N", help="seed of the run (default: 1)")
    p.add_argument("--fault", metavar="NAME", help="make the reference wrong on purpose: which tests notice?")
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
    p.add_argument("--require", action="store_true", help="a test that cannot run fails")
    p.add_argument(
        "-n",
        dest="workers",
        metavar="WORKERS",
        help="run tests in this many processes; auto: as many as do not disturb each other",
    )
    p.add_argument(
        "--pytest", dest="pytest_args", action="append", default=[], metavar="ARG", help="pass ARG to pytest"
    )
    p.set_defaults(function=run)


def _add_vm(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    p = commands.add_parser("vm", help="a shell, or one command, on a kernel in a VM")
    p.add_argument("--kernel", required=True, metavar="K", help="debian:SERIES or a kernel image's path")
    p.add_argument("--memory", default="1G", metavar="SIZE", help="guest memory (default 1G)")
    p.add_argument("--cpus", type=int, default=2, metavar="N")
    p.add_argument("--numa", type=int, default=1, metavar="N", help="NUMA nodes")
    p.add_argument("command", nargs="*", metavar="CMD", help="after --: what to run instead of a shell")
    p.set_defaults(function=vm)


def _add_serve(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
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
    p.set_defaults(function=serve)


def _add_recording(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
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
        p.set_defaults(function=recording)
    for p in (show, import_, judge):
        p.add_argument("--select", type=int, metavar="N", help="which of a file's recordings")
    for p in (import_, judge):
        p.add_argument(
            "--intervals",
            type=int,
            nargs=2,
            metavar=("SAMPLE_US", "AGGR_US"),
            help="where the file does not say",
        )
    show.add_argument(
        "--truth",
        action=argparse.BooleanOptionalAction,
        help="what really happened, too (default: when it is in the file)",
    )
    show.add_argument("--png", metavar="OUT", help="write a picture, .png or .svg, instead of text")
    show.add_argument("--width", type=int, metavar="N", help="columns of the text (default: the terminal's)")
    show.add_argument("--target", type=int, default=0, metavar="N", help="position of the target (default 0)")
    export.add_argument("--to", choices=("damo",), required=True, help="whose format")
    export.add_argument(
        "--format", choices=("json_compressed", "json", "perf_script"), default="json_compressed"
    )
    export.add_argument("out", metavar="OUT")
    import_.add_argument("out", metavar="OUT")
    judge.add_argument("--level", metavar="L", help="kernel series that made it")
    judge.add_argument("--nr-regions", type=int, nargs=2, metavar=("MIN", "MAX"), help="the limits asked for")
    judge.add_argument("--ops", metavar="NAME", help="vaddr, fvaddr or paddr")


def _add_monitor(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
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
    p.add_argument("--seconds", type=float, metavar="S", help="how long (default: until it ends, or Ctrl-C)")
    p.add_argument("--record", metavar="FILE", help="also write what was seen (.damon.npz)")
    p.add_argument("--seed", type=int, default=0, metavar="N")
    p.set_defaults(function=monitor)


def _add_workload(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    p = commands.add_parser("workload", help="a real process performs a pattern, and says where and what")
    p.add_argument(
        "pattern", metavar="PATTERN", help="of the library (hot_cold), or a file: YAML, or masim's"
    )
    p.add_argument("--seconds", type=float, metavar="S", help="how long (default: to its end, or Ctrl-C)")
    p.add_argument("--seed", type=int, default=0, metavar="N")
    p.add_argument(
        "--hints",
        choices=("none", "madvise", "mlock"),
        default="none",
        help="of a masim configuration: advise or lock what is hot in each phase (masim's -t)",
    )
    p.add_argument("--hugetlb", action="store_true", help="of a masim configuration: huge pages (masim's -h)")
    p.set_defaults(function=workload)


if __name__ == "__main__":
    sys.exit(main())

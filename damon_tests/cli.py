# SPDX-License-Identifier: GPL-2.0
"""The ``damon-tests`` command: reads arguments and calls what does the work.

Modules are imported by the command that needs them, so that ``damon-tests --help`` is instant
and a missing extra only matters to the command that uses it.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from damon_tests import BEGAN_S, arguments
from damon_tests.ports import output_file
from damon_tests.ports.errors import DamonTestsError, UsageError
from damon_tests.report import output

# What is wrong with a file or directory that the user named, as opposed to a full or broken disk.
_USAGE_ERRNOS = (
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.EACCES, errno.EPERM, errno.EROFS),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    output.never_fail()
    args = arguments.parser().parse_args(argv)
    args.of_process = argv is None
    try:
        code = COMMANDS[args.function](args)
    except DamonTestsError as error:
        print(f"damon-tests: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # The reader (a pager, head) went away: nobody is left to report to. No success: what a gate asked
        # for may not have been found out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    except KeyboardInterrupt:
        print("damon-tests: interrupted", file=sys.stderr)
        return 2
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        print(f"damon-tests: {where}{error.strerror or error}", file=sys.stderr)
        return 2 if error.errno in _USAGE_ERRNOS else 6
    return code


def run(args: argparse.Namespace) -> int:
    """Run ``damon-tests run``: the suites, or tests of the user."""
    from damon_tests.commands.run import RunRequest, run_tests

    options = [f"--kernel={args.kernel}", f"--profile={args.profile}"]
    for name in (
        "level",
        "output",
        "seed",
        "fault",
        "budgets",
        "guest_clock",
        "append",
        "memory",
        "cpus",
        "numa",
        "shard",
        "ktap",
        "allow_skips",
    ):
        if getattr(args, name) is not None:
            options.append(f"--{name.replace('_', '-')}={getattr(args, name)}")
    options += [f"--budget={args.budget}s"] if args.budget else []
    for name in ("overwrite", "require", "stop_modules", "keep_guest"):
        options += [f"--{name.replace('_', '-')}"] if getattr(args, name) else []
    verbosity = args.verbose - args.quiet
    began = BEGAN_S if args.of_process else None
    return run_tests(RunRequest(args.paths, options, args.workers, args.pytest_args, verbosity, began))


def gate(args: argparse.Namespace) -> int:
    """Run ``damon-tests gate``: several kernels or commits, one verdict."""
    from damon_tests.commands.tree_options import gate_command

    return gate_command(args)


def build(args: argparse.Namespace) -> int:
    """Run ``damon-tests build``: a kernel for the guests."""
    from damon_tests.commands.tree_options import build_command

    return build_command(args)


def kunit(args: argparse.Namespace) -> int:
    """Run ``damon-tests kunit``: DAMON's own unit tests in a kernel."""
    from damon_tests.commands.tree_options import kunit_command

    return kunit_command(args)


def bisect(args: argparse.Namespace) -> int:
    """Run ``damon-tests bisect``: the commit that broke DAMON."""
    from damon_tests.commands.tree_options import bisect_command

    return bisect_command(args)


def kselftest(args: argparse.Namespace) -> int:
    """Run ``damon-tests kselftest``: the kernel's own selftests."""
    from damon_tests.commands.kselftest import SelftestRequest
    from damon_tests.commands.kselftest import kselftest as run_selftests

    request = SelftestRequest(
        args.kernel, args.source, args.tests, args.timeout, args.output, args.baseline, args.overwrite
    )
    return run_selftests(request)


def kselftest_install(args: argparse.Namespace) -> int:
    """Run ``damon-tests kselftest-install``: the suites as kselftests of a kernel tree."""
    from damon_tests.commands.kselftest_install import install

    return install(args.directory, args.kernel, args.profile)


def vm(args: argparse.Namespace) -> int:
    """Run ``damon-tests vm``: a shell or a command on a real kernel."""
    from damon_tests.commands.vm import run_in_guest

    return run_in_guest(
        args.kernel,
        memory=args.memory,
        cpus=args.cpus,
        numa=args.numa,
        append=args.append,
        command=args.command or None,
    )


def doctor(args: argparse.Namespace) -> int:
    """Run ``damon-tests doctor``: what can be tested on this machine, and what not."""
    from damon_tests.commands.doctor import show_survey

    return show_survey(as_json=args.json)


def report(args: argparse.Namespace) -> int:
    """Run ``damon-tests report DIR``: a run again, and in other formats."""
    from damon_tests.commands.report import VIEWS, ReportRequest, show_report

    if args.mail is not None or args.github is not None:
        return _report_upstream(args)
    if args.tree is not None:
        raise UsageError("--tree goes with --mail: it says whom to write to")
    for name in ("symbols", "bisection", "regzbot"):
        if getattr(args, name) not in (None, False):
            raise UsageError(f"--{name} goes with --mail or --github: it adds to what they print")
    # argparse takes the TEST of "report DIR --failed TEST" for the option's.
    view = next((name for name in VIEWS if getattr(args, name) is not None), None)
    of_view = (view and getattr(args, view)) or None
    if of_view is not None and args.test is not None:
        raise UsageError(f"two tests are given, {of_view} and {args.test}: give one")
    return show_report(
        ReportRequest(
            Path(args.directory),
            view,
            of_view or args.test,
            html=args.html,
            junit=args.junit,
            json=args.json,
            ktap=args.ktap,
            tap=args.tap,
            kcidb=args.kcidb,
            kcidb_build=args.kcidb_build,
            pictures={kind: path for kind in ("png", "svg") if (path := getattr(args, kind)) is not None},
            merge=args.merge,
        )
    )


def _report_upstream(args: argparse.Namespace) -> int:
    """Run ``damon-tests report DIR --mail`` and ``--github``: one failed test for DAMON's maintainers."""
    from damon_tests.commands.upstream import UpstreamRequest, print_github, print_mail

    files = (args.html, args.junit, args.json, args.ktap, args.tap, args.kcidb, args.png, args.svg)
    if args.merge or any(files):
        raise UsageError("--mail and --github print one test and write no files: ask for those separately")
    test = args.mail or args.github or args.test or ""
    request = UpstreamRequest(Path(args.directory), test, args.symbols, args.bisection, args.regzbot)
    if args.mail is not None:
        return print_mail(request, Path(args.tree) if args.tree is not None else None)
    if args.tree is not None:
        raise UsageError("--tree goes with --mail: an issue has no addresses")
    return print_github(request)


def serve(args: argparse.Namespace) -> int:
    """Run ``damon-tests serve``: the reference as real files, at a directory or around a command."""
    from damon_tests.reference.serve import server

    if args.command is not None:
        return server.around(args.command, args.level, seed=args.seed)
    return server.at(args.at, args.level, transport=args.transport, seed=args.seed)


def recording(args: argparse.Namespace) -> int:
    """Run ``damon-tests recording``: what DAMON saw, shown, converted, judged."""
    from damon_tests.commands import recording as action
    from damon_tests.judge.monitoring.recording_verdict import Request

    path = Path(args.file)
    intervals = tuple(args.intervals) if getattr(args, "intervals", None) else None
    if args.action == "show":
        return action.show(
            path,
            truth=args.truth,
            png=Path(args.png) if args.png else None,
            width=args.width,
            target=args.target,
            select=args.select,
        )
    if args.action == "compare":
        png = Path(args.png) if args.png else None
        return action.compare(path, Path(args.other), png=png, width=args.width, target=args.target)
    if args.action == "export":
        return action.export(path, Path(args.out), args.format)
    if args.action == "import":
        return action.import_(path, Path(args.out), select=args.select, intervals=intervals)
    limits = tuple(args.nr_regions) if args.nr_regions else None
    if limits is not None and limits[0] > limits[1]:
        raise UsageError(f"--nr-regions {limits[0]} {limits[1]}: the minimum is above the maximum")
    return action.judge(path, Request(args.level, limits, intervals, args.ops), select=args.select)


def false_alarms(args: argparse.Namespace) -> int:
    """Run ``damon-tests false-alarms``: how often the suites accuse a correct DAMON."""
    from damon_tests.commands.false_alarms import Limits, show_false_alarms
    from damon_tests.commands.run import suite_path
    from damon_tests.report.run_directory import new_directory

    directory = Path(args.output) if args.output else new_directory()
    paths = [suite_path(p) for p in args.paths]
    seconds = None if args.minutes is None else args.minutes * 60
    limits = Limits(args.runs, args.rounds, seconds)
    return show_false_alarms(args.kernel, limits, directory, paths, args.first_seed, args.profile)


def faults(args: argparse.Namespace) -> int:
    """Run ``damon-tests faults``: wrong DAMONs, and which tests notice which."""
    from damon_tests.commands.fault_kinds import show_kinds
    from damon_tests.commands.faults import run_kill_matrix, show_catalogue
    from damon_tests.commands.run import suite_path

    if args.kinds:
        return show_kinds(as_json=args.json)
    if not args.run:
        of_runs = {
            "--suite": args.suite,
            "--output": args.output,
            "-n": args.workers > 1,
            "--first-killer": args.first_killer,
        }
        for option, given in of_runs.items():
            if given:
                raise UsageError(f"{option} goes with --run: without it faults are only listed")
        return show_catalogue(args.names, args.area, as_json=args.json)
    paths = [suite_path(p) for p in args.suite]
    return run_kill_matrix(
        args.names,
        args.area,
        paths,
        output=args.output or Path("damon-tests-faults"),
        workers=args.workers,
        first_killer=args.first_killer,
    )


def new_test(args: argparse.Namespace) -> int:
    """Run ``damon-tests new-test``: the skeleton of a test."""
    from damon_tests.commands import new_test as skeleton

    return skeleton.write(args.name)


def defects(args: argparse.Namespace) -> int:
    """Run ``damon-tests defects``: known defects of DAMON, and which kernels have them."""
    from damon_tests.commands.defects import show_defects
    from damon_tests.commands.findings import print_findings

    if args.findings is not None:
        return print_findings(args.findings)
    return show_defects(args.kernel, as_json=args.json)


def monitor(args: argparse.Namespace) -> int:
    """Run ``damon-tests monitor``: what DAMON sees, live, or a recording again."""
    from damon_tests.commands.monitor_options import monitor_command

    return monitor_command(args)


def workload(args: argparse.Namespace) -> int:
    """Run ``damon-tests workload``: a real process performs a pattern."""
    from damon_tests.commands.workload import perform_pattern
    from damon_tests.patterns.masim import Options

    options = Options(args.hints, args.hugetlb, args.mode, args.times)
    return perform_pattern(args.pattern, seconds=args.seconds, seed=args.seed, options=options)


def bench(args: argparse.Namespace) -> int:
    """Run ``damon-tests bench``: what DAMON costs on a kernel."""
    from damon_tests.commands import bench as benchmark

    if args.show:
        return benchmark.show([Path(directory) for directory in args.show])
    output, history = (Path(name) if name else None for name in (args.output, args.history))
    if history is not None:
        output_file.check_writable(history)
    return benchmark.run(args.kernel, args.names, output, args.seed, history)


def compare(args: argparse.Namespace) -> int:
    """Run ``damon-tests compare``: two kernels' costs."""
    from damon_tests.commands.compare import run as compare_kernels

    flames = Path(args.flames) if args.flames else None
    return compare_kernels(args.before, args.after, force=args.force, flames=flames, seed=args.seed)


def history(args: argparse.Namespace) -> int:
    """Run ``damon-tests history``: a metric over many benchmark runs."""
    from damon_tests.commands.history import run as print_history

    return print_history(args.metric, Path(args.file), Path(args.plot) if args.plot else None)


def explore(args: argparse.Namespace) -> int:
    """Run ``damon-tests explore``: accuracy over cost."""
    from damon_tests.commands.explore import Outputs, run_truth
    from damon_tests.commands.explore import run as explore_pattern
    from damon_tests.judge.monitoring.tradeoff import Hot
    from damon_tests.patterns.load import load
    from damon_tests.scenario.exploration import Grid, Plan

    usual = Grid()
    grid = Grid(
        tuple(args.sample_ms or usual.sample_ms),
        tuple(args.regions or usual.max_nr_regions),
        usual.goals_bp if args.goals_bp is None else tuple(args.goals_bp),
    )
    hot = Hot(args.hot, max(1, round(args.hot_ms * 1000)))
    outputs = Outputs(args.json, args.picture)
    if args.pattern.endswith(".npz"):
        path = Path(args.pattern)
        return run_truth(path, args.kernel, grid, hot, args.attempts, args.seed, outputs)
    plan = Plan(load(args.pattern), grid, hot, args.seconds, args.attempts, args.seed)
    return explore_pattern(args.kernel, plan, outputs)


def truth(args: argparse.Namespace) -> int:
    """Run ``damon-tests truth``: what a real program accesses, and what DAMON reports of it."""
    from damon_tests.commands import truth as observe

    if args.list:
        return observe.list_programs()
    words = args.words[1:] if args.words[:1] == ["--"] else args.words
    request = observe.TruthRequest(
        kernel=args.kernel,
        program=args.program,
        command=tuple(words),
        packages=tuple(args.package),
        operations=args.operations,
        attrs=observe.attrs_of(args.sample_ms, args.aggr_ms, args.regions, args.goal_bp),
        warm_s=args.warm,
        seconds=args.seconds,
        seed=args.seed,
        output=args.output,
        overwrite=args.overwrite,
    )
    return observe.run(request)


def savings(args: argparse.Namespace) -> int:
    """Run ``damon-tests savings``: memory saved, slowdown and refaults under DAMON's schemes."""
    from damon_tests.commands.savings import Outputs, measure, show, workload
    from damon_tests.scenario.savings import Plan, chosen

    if args.show:
        return show(args.show, args.picture)
    workloads = tuple(workload(name) for name in args.workload)
    plan = Plan(chosen(args.uses), workloads, args.repeats, args.settle, args.seconds, args.seed)
    return measure(args.kernel, plan, Outputs(args.json, args.picture, args.beside))


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    command.__name__: command
    for command in (
        bench,
        compare,
        history,
        explore,
        savings,
        truth,
        run,
        gate,
        kselftest,
        kselftest_install,
        build,
        kunit,
        bisect,
        vm,
        serve,
        monitor,
        workload,
        doctor,
        false_alarms,
        faults,
        defects,
        new_test,
        report,
        recording,
    )
}


if __name__ == "__main__":
    sys.exit(main())

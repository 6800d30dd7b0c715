# SPDX-License-Identifier: GPL-2.0
"""The ``damon-tests`` command: reads arguments and calls what does the work.

Modules are imported by the command that needs them, so that ``damon-tests --help`` is instant
and a missing extra only matters to the command that uses it.
"""

from __future__ import annotations

import argparse
import errno
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from damon_tests import arguments, bundle
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
    try:
        code = COMMANDS[args.function](args)
    except DamonTestsError as error:
        print(f"damon-tests: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # The reader (a pager, head) went away: nothing is left to tell it. No success: what a gate asked
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
    """``damon-tests run``: the suites, through pytest with our plugin."""
    import pytest

    paths = [_suite_path(p) for p in args.paths] or [str(bundle.suites_dir())]
    options = ["-p", "damon_tests.plugin", *_configuration(paths)]
    options += [f"--kernel={args.kernel}", f"--profile={args.profile}"]
    for name in ("level", "output", "seed", "fault", "budgets", "guest_clock"):
        if getattr(args, name) is not None:
            options.append(f"--{name.replace('_', '-')}={getattr(args, name)}")
    options += ["--require"] if args.require else []
    options += ["--stop-modules"] if args.stop_modules else []
    options += ["--keep-guest"] if args.keep_guest else []
    if args.workers is not None:
        options += ["-n", args.workers]
    more = [option for text in args.pytest_args for option in _words(text)]
    code = int(pytest.main([*options, *more, *paths]))
    return 2 if code == pytest.ExitCode.USAGE_ERROR else code


def vm(args: argparse.Namespace) -> int:
    """``damon-tests vm``: a shell or a command on a real kernel."""
    from damon_tests.commands import vm as kernel_vm

    return kernel_vm.run(
        args.kernel, memory=args.memory, cpus=args.cpus, numa=args.numa, command=args.command or None
    )


def doctor(args: argparse.Namespace) -> int:
    """``damon-tests doctor``: what can be tested on this machine, and what not."""
    from damon_tests.commands import doctor as report_doctor

    return report_doctor.show(as_json=args.json)


def report(args: argparse.Namespace) -> int:
    """``damon-tests report DIR``: a finished run again."""
    from damon_tests.commands import report as show

    return show.show(Path(args.directory), html=args.html)


def serve(args: argparse.Namespace) -> int:
    """``damon-tests serve``: the reference as real files, at a directory or around a command."""
    from damon_tests.reference.serve import server as reference_serve

    if args.command is not None:
        return reference_serve.around(args.command, args.level, seed=args.seed)
    return reference_serve.at(args.at, args.level, transport=args.transport, seed=args.seed)


def recording(args: argparse.Namespace) -> int:
    """``damon-tests recording``: what DAMON saw, shown, converted, judged."""
    from damon_tests.commands import recording as recordings
    from damon_tests.judge.monitoring.recording_verdict import Request

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
    from damon_tests.commands import false_alarms as measured
    from damon_tests.report import artifacts

    directory = Path(args.output) if args.output else artifacts.new_directory()
    paths = [_suite_path(p) for p in args.paths]
    seconds = None if args.minutes is None else args.minutes * 60
    limits = measured.Limits(args.runs, args.rounds, seconds)
    return measured.show(args.kernel, limits, directory, paths, args.first_seed, args.profile)


def faults(args: argparse.Namespace) -> int:
    """``damon-tests faults``: wrong DAMONs, and which tests notice which."""
    from damon_tests.commands import faults as kill

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


def defects(args: argparse.Namespace) -> int:
    """``damon-tests defects``: known defects of DAMON, and which kernels have them."""
    from damon_tests.commands import defects as known

    return known.show(args.kernel, as_json=args.json)


def monitor(args: argparse.Namespace) -> int:
    """``damon-tests monitor``: the reference watches a real process."""
    from damon_tests.commands import monitor as report_monitor

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
    from damon_tests.commands import workload as play
    from damon_tests.patterns.masim import Options

    options = Options(args.hints, args.hugetlb, args.mode, args.times)
    return play.play(args.pattern, seconds=args.seconds, seed=args.seed, options=options)


def bench(args: argparse.Namespace) -> int:
    """``damon-tests bench``: what DAMON costs on a kernel."""
    from damon_tests.commands import bench as benchmarks

    if args.show:
        return benchmarks.show([Path(directory) for directory in args.show])
    output, history = (Path(name) if name else None for name in (args.output, args.history))
    return benchmarks.run(args.kernel, args.names, output, args.seed, history)


def compare(args: argparse.Namespace) -> int:
    """``damon-tests compare``: two kernels' costs."""
    from damon_tests.commands import compare as comparison

    flames = Path(args.flames) if args.flames else None
    return comparison.run(args.before, args.after, force=args.force, flames=flames, seed=args.seed)


def history(args: argparse.Namespace) -> int:
    """``damon-tests history``: a metric over many benchmark runs."""
    from damon_tests.commands import history as kept

    return kept.run(args.metric, Path(args.file), Path(args.plot) if args.plot else None)


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    command.__name__: command
    for command in (
        bench,
        compare,
        history,
        run,
        vm,
        serve,
        monitor,
        workload,
        doctor,
        false_alarms,
        faults,
        defects,
        report,
        recording,
    )
}


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


def _words(text: str) -> list[str]:
    """What ``--pytest`` was given, taken apart as a shell does it."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(f"--pytest={text}: {error}") from None


def _suite_path(text: str) -> str:
    """A path as given, else the same below the checkout's or wheel's own suites."""
    path = text.split("::", 1)[0]
    if Path(path).exists():
        return text
    if (bundle.root() / path).exists():
        return str(bundle.root() / text)
    raise UsageError(f"no such test file or directory: {path} (suites are in {bundle.suites_dir()})")


if __name__ == "__main__":
    sys.exit(main())

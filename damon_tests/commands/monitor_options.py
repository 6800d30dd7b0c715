# SPDX-License-Identifier: GPL-2.0
"""Which of its ways ``damon-tests monitor`` goes: a recording, the reference, or a kernel's DAMON."""

from __future__ import annotations

import argparse
from pathlib import Path

from damon_tests.commands.monitor import watch_process
from damon_tests.commands.monitor_kernel import watch_on_kernel
from damon_tests.commands.playback import play
from damon_tests.experiment.kernel_request import KernelRequest
from damon_tests.ports import UsageError


def monitor_command(args: argparse.Namespace) -> int:
    """Run ``damon-tests monitor``. Raises UsageError for options that do not go together."""
    targets = {"TARGET": args.target, "--reference": args.reference, "--play": args.play}
    given = [name for name, value in targets.items() if value is not None]
    if len(given) != 1:
        both = f"{given[0]} and {given[1]} exclude each other" if given else "nothing is named"
        raise UsageError(f"{both}: give a TARGET to watch, or --play FILE")
    if args.play is not None:
        return play(Path(args.play), args.speed)
    request = KernelRequest(args.kernel)
    record = None if args.record is None else Path(args.record)
    if args.reference is None and not request.is_reference:
        for option, value in (("--level", args.level), ("--operations", args.operations)):
            if value is not None:
                raise UsageError(f"{option} is of the reference: {args.kernel} has its own DAMON")
        return watch_on_kernel(args.target, request, seconds=args.seconds, record=record, seed=args.seed)
    if args.reference is not None and not request.is_reference:
        raise UsageError(f"--reference {args.reference}: the reference watches, not {args.kernel}")
    request.check()
    level, fault = KernelRequest(args.kernel, args.level).reference_level_and_fault()
    if fault is not None:
        raise UsageError(f"--kernel {args.kernel}: a wrong DAMON watches no real process")
    return watch_process(
        args.target or args.reference,
        level=level,
        operations="auto" if args.operations is None else args.operations,
        seconds=args.seconds,
        record=record,
        seed=args.seed,
    )

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Print what a test's guest executes, which is what the test's CPU time on the host goes to.

    guest_profile.py --kernel debian:7.3 [--pattern hot_cold] [--seconds 2]

A guest executes about 350 million instructions in a second of host CPU time. Three stretches are counted, as
a test has them: nothing happens after the guest was restored; the pattern's process starts; DAMON watches it.
Each gets a line for every thread that executed most, and the dearest functions of the whole guest.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from damon_tests.damon.client import DamonClient
from damon_tests.damon.params import DamonAttrs, DamonCtx, DamonTarget, Kdamond
from damon_tests.damon.session import Session
from damon_tests.experiment.backend import Subject
from damon_tests.experiment.kernel_request import KernelRequest
from damon_tests.experiment.open_backend import open_backend
from damon_tests.kernel.guest.topology import Topology
from damon_tests.patterns.load import load
from damon_tests.patterns.spec import Pattern
from damon_tests.ports import NSEC_PER_SEC, DamonTestsError
from damon_tests.ports.cost import Cost

MOST = 6


def lines(title: str, cost: Cost) -> list[str]:
    """Return a stretch's threads and functions, the dearest first, with their shares."""
    total = max(1, sum(thread.used for thread in cost.threads.values()) or cost.used)
    text = [
        f"{title}: {total / 1e6:,.1f} M instructions in {cost.window_ns / NSEC_PER_SEC:.2f} s of the guest"
    ]
    threads = sorted(cost.threads.items(), key=lambda item: -item[1].used)[:MOST]
    text += [f"  {name:<20} {thread.used / total:7.1%}" for name, thread in threads]
    if cost.tree is not None:
        whole, functions = max(1, cost.tree.instructions), list(cost.tree.functions().items())[:MOST]
        text.append("  in " + ", ".join(f"{name} {own / whole:.1%}" for name, own in functions))
    return text


def stretches(subject: Subject, pattern: Pattern, seconds: float, seed: int) -> list[tuple[str, Cost]]:
    """Count the whole guest while it idles, starts a process, and watches it."""
    probe, length_ns = subject.cost_probe(), int(seconds * NSEC_PER_SEC)
    with probe.window("") as idle:
        subject.clock.run_for(length_ns)
    with probe.window("") as starts:
        target = subject.start_target(pattern, seed)
    try:
        ctx = DamonCtx("vaddr", attrs=DamonAttrs(), targets=(DamonTarget(target.pid),))
        client = DamonClient(subject.tree, subject.clock)
        with Session(client, subject.events, (Kdamond(ctx),), source="auto") as session:
            target.go()
            session.start()
            with probe.window("") as watches:
                session.record(length_ns)
    finally:
        target.stop()
    return [
        ("idle after restore", idle.result),
        (f"{pattern.name} starts", starts.result),
        (f"DAMON watches {pattern.name}", watches.result),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kernel", default="debian:newest")
    parser.add_argument("--pattern", default="hot_cold")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    try:
        pattern = load(options.pattern)
        with (
            tempfile.TemporaryDirectory() as scratch,
            open_backend(KernelRequest(options.kernel), Path(scratch)) as backend,
        ):
            backend.capabilities()
            subject = backend.subject(options.seed, Topology(instructions=True))
            try:
                for title, cost in stretches(subject, pattern, options.seconds, options.seed):
                    print("\n".join(lines(title, cost)))
            finally:
                subject.close()
    except DamonTestsError as error:
        print(f"guest_profile: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

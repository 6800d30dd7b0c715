# SPDX-License-Identifier: GPL-2.0
"""Options of commands that use a machine: ``vm``, ``serve``, ``monitor``, ``workload``, ``doctor``."""

from __future__ import annotations

import argparse

from damon_tests.arguments.values import GUEST_KERNELS, Commands, count, duration, file


def add_vm(commands: Commands) -> None:
    """Add ``vm``: a shell or a command in a guest."""
    p = commands.add_parser("vm", help="a shell, or one command, on a kernel in a VM")
    p.add_argument("--kernel", required=True, metavar="K", help=GUEST_KERNELS)
    p.add_argument("--memory", default="1G", metavar="SIZE", help="guest memory (default 1G)")
    p.add_argument("--cpus", type=count, default=2, metavar="N")
    p.add_argument("--numa", type=count, default=1, metavar="N", help="NUMA nodes")
    p.add_argument("--append", default="", metavar="PARAMETERS", help="more kernel parameters")
    p.add_argument("command", nargs="*", metavar="CMD", help="after --: what to run instead of a shell")
    p.set_defaults(function="vm")


def add_serve(commands: Commands) -> None:
    """Add ``serve``: the reference's tree as files."""
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


def add_monitor(commands: Commands) -> None:
    """Add ``monitor``: watch a process."""
    p = commands.add_parser(
        "monitor",
        help="what DAMON sees of a process, live; a recording again",
        description="Show what DAMON sees while it sees it: heat map, hot and cold bytes, regions, its own"
        " cost. In a terminal: space pauses, + and - zoom, z shows all, t the next target, q ends.",
    )
    p.add_argument(
        "target",
        nargs="?",
        metavar="TARGET",
        help="a pattern (hot_cold, a file) to run and to watch, or the pid of a process of yours",
    )
    p.add_argument(
        "--kernel",
        default="reference",
        metavar="K",
        help="whose DAMON watches: reference (default; real processes of this machine), host,"
        f" or in a VM {GUEST_KERNELS}",
    )
    p.add_argument("--play", metavar="FILE", help="show a recording again (recording.npz, or damo's)")
    p.add_argument("--reference", metavar="TARGET", help="the same as TARGET --kernel reference")
    p.add_argument("--level", metavar="L", help="of the reference: kernel series to be like (default 7.3)")
    p.add_argument(
        "--operations",
        metavar="SET",
        help="of the reference: how accesses are found out: auto (default), cooperative, writes, page_idle",
    )
    p.add_argument(
        "--seconds", type=duration, metavar="S", help="how long (default: until it ends, or Ctrl-C)"
    )
    p.add_argument(
        "--speed", type=duration, default=1.0, metavar="X", help="with --play: X times as fast (default 1)"
    )
    p.add_argument("--record", type=file, metavar="FILE", help="also write what was seen (.damon.npz)")
    p.add_argument("--seed", type=int, default=0, metavar="N")
    p.set_defaults(function="monitor")


def add_workload(commands: Commands) -> None:
    """Add ``workload``: perform a pattern in a process."""
    p = commands.add_parser("workload", help="a real process performs a pattern, and says where and what")
    p.add_argument(
        "pattern", metavar="PATTERN", help="of the library (hot_cold), or a file: YAML, or masim's"
    )
    p.add_argument("--seconds", type=duration, metavar="S", help="how long (default: to its end, or Ctrl-C)")
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
        "--times", type=count, default=1, metavar="N", help="of a masim configuration: N times (masim's -c)"
    )
    p.set_defaults(function="workload")


def add_doctor(commands: Commands) -> None:
    """Add ``doctor``: what this machine can do."""
    p = commands.add_parser("doctor", help="what this machine and kernel can do, and which suites would run")
    p.add_argument("--json", action="store_true", help="print it for a program")
    p.set_defaults(function="doctor")

# SPDX-License-Identifier: GPL-2.0
"""A request as a shell script of sysfs writes, for people who have a kernel, a shell and nothing of ours.

The writes come from ``damon.layout``, in the order in which ``damon.client`` stages them. A process that the
request names by its pid is replaced by ``dd``, and addresses of its memory by those of dd's buffer.
"""

from __future__ import annotations

import math
import re
import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from damon_tests.damon import layout
from damon_tests.damon.layout import Write
from damon_tests.damon.params import ANY, DamonCtx, Damos, Kdamond
from damon_tests.damon.users import ADMIN, MODULES
from damon_tests.report import wording

COLUMNS = 75
CTX = "0/contexts/0"

_MIN_BUFFER, _BUFFER, _MAX_BUFFER = 1 << 20, 64 << 20, 256 << 20
_MAX_SECONDS = 60
_END_OF_ADDRESSES = 1 << 62  # what a shell can count to, and more than any process has
_PID = re.compile(r"targets/(\d+)/pid_target$")
_REGION = re.compile(r"targets/(\d+)/regions/\d+/(?:start|end)$")
_FILTER = re.compile(r"filters/\d+/addr_(?:start|end)$")
_PLAIN = re.compile(r"[\w.-]+")


@dataclass(frozen=True)
class Reproducer:
    """What a script is made from.

    ``ctx``: the request, targets filled in. ``layout``: the workload's regions, byte ranges by name, as in a
    recording. ``seconds``: how long DAMON monitors. ``idle``: the workload does not touch its memory.
    ``title`` and ``expected`` go into comments.
    """

    ctx: DamonCtx
    title: str
    expected: Sequence[str] = ()
    layout: Mapping[str, tuple[int, int]] | None = None
    seconds: float = 5.0
    idle: bool = False


@dataclass(frozen=True)
class Buffer:
    """One process of dd: its number in the script, and the recorded memory (bytes) that its buffer stands
    for."""

    number: int
    start: int
    end: int

    @property
    def size(self) -> int:
        return min(max(self.end - self.start, _MIN_BUFFER), _MAX_BUFFER)


def staged(ctx: DamonCtx) -> DamonCtx:
    """Return the request that the script stages: one that has no scheme gets a "stat" scheme of all memory,
    for its tried regions show what DAMON found."""
    return ctx if ctx.schemes else replace(ctx, schemes=(Damos("stat", ANY),))


def writes(ctx: DamonCtx) -> list[Write]:
    """Return what to write, in order, below DAMON's admin directory."""
    count = Write(layout.KDAMONDS.count_path, "1")
    return [count, *layout.new_kdamond_writes(0, Kdamond(staged(ctx)))]


def script(reproducer: Reproducer) -> str:
    """Return the script, in lines of at most 75 columns where its values allow it.

    It refuses to run while DAMON is in use, and leaves ``nr_kdamonds`` at 0.
    """
    ctx = staged(reproducer.ctx)
    buffers = buffers_of(ctx, reproducer.layout or {})
    parts = [
        _head(reproducer),
        _SET_UP,
        *([_FIND_BUFFER] if buffers else []),
        _workload(buffers, idle=reproducer.idle, physical=ctx.operations == "paddr"),
        _staging(reproducer.ctx, buffers),
        _run(ctx, reproducer.seconds),
        _SHOW,
    ]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


# --- which memory ----------------------------------------------------------------------------


def buffers_of(ctx: DamonCtx, regions: Mapping[str, tuple[int, int]]) -> dict[int, Buffer]:
    """Return the buffer of each target's process, by the target's index; none for physical memory."""
    if ctx.operations == "paddr":
        return {}
    spans: dict[int, list[tuple[int, int]]] = {}
    for index, target in enumerate(ctx.targets):
        of_process = spans.setdefault(target.pid_target, [])
        of_process += [*target.regions, *(regions.values() if index == 0 else ())]
    buffers = {
        pid: Buffer(
            number, min((s for s, _ in known), default=0), max((e for _, e in known), default=_BUFFER)
        )
        for number, (pid, known) in enumerate(spans.items())
    }
    return {index: buffers[target.pid_target] for index, target in enumerate(ctx.targets)}


def _value(write: Write, buffers: Mapping[int, Buffer]) -> str:
    """Return the value as the script writes it: of this boot's process and memory where it is of these."""
    if (match := _PID.search(write.path)) and int(match[1]) in buffers:
        return f'"$pid{buffers[int(match[1])].number}"'
    target = int(match[1]) if (match := _REGION.search(write.path)) else 0
    if (match or _FILTER.search(write.path)) and target in buffers:
        buffer = buffers[target]
        if buffer.start <= int(write.text) <= buffer.end < _END_OF_ADDRESSES:
            return f"$((buffer{buffer.number} + {int(write.text) - buffer.start}))"
    return write.text if _PLAIN.fullmatch(write.text) else shlex.quote(write.text)


# --- parts of the script ---------------------------------------------------------------------


def _comment(text: str) -> Iterator[str]:
    for line in textwrap.wrap(text, COLUMNS - 2, break_on_hyphens=False) or [""]:
        yield f"# {line}".rstrip()


def _head(reproducer: Reproducer) -> str:
    lines = ["#!/bin/sh", *_comment(reproducer.title)]
    for text in reproducer.expected:
        lines += ["#", *_comment(text)]
    lines += ["#", *_comment("Run it as root. It needs a shell, dd, sleep, and a kernel with DAMON_SYSFS.")]
    return "\n".join(lines)


_SET_UP = f"""\
set -u

die() {{
    echo "$1" >&2
    exit 1
}}

put() {{
    echo "$2" > "$1" || die "$PWD/$1 refuses $2"
}}

clean_up() {{
    trap - EXIT
    if [ -e 0/state ]; then
        read -r state < 0/state
        [ "$state" = off ] || echo off > 0/state
    fi
    echo 0 > nr_kdamonds
    # shellcheck disable=SC2086
    [ -z "$workload" ] || kill -9 $workload
    wait
}}

cd {ADMIN}/kdamonds || die "no DAMON_SYSFS here"
read -r kdamonds < nr_kdamonds
[ "$kdamonds" = 0 ] || die "DAMON is in use (nr_kdamonds is $kdamonds)"
for module in {" ".join(MODULES)}; do
    enabled=N
    file=/sys/module/$module/parameters/enabled
    [ ! -e "$file" ] || read -r enabled < "$file"
    [ "$enabled" = N ] || die "DAMON is in use ($module is enabled)"
done
workload=
trap clean_up EXIT
trap 'exit 1' HUP INT TERM
"""

_FIND_BUFFER = """\
# Set buffer to where the largest writable mapping of process $1 begins.
find_buffer() {
    buffer=0 largest=0
    while read -r range mode _; do
        case $mode in rw*) ;; *) continue ;; esac
        size=$((0x${range#*-} - 0x${range%-*}))
        if [ "$size" -gt "$largest" ]; then
            largest=$size buffer=$((0x${range%-*}))
        fi
    done < "/proc/$1/maps"
}

# Wait until process $1 has its buffer of $2 bytes.
await_buffer() {
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        find_buffer "$1"
        [ "$largest" -lt "$2" ] || return 0
        sleep 1
    done
    die "dd has no buffer of $2 bytes"
}
"""


def _workload(buffers: Mapping[int, Buffer], *, idle: bool, physical: bool) -> str:
    """Return the commands that start the processes to monitor.

    One that shall be idle is stopped once it has filled its buffer.
    """
    if physical:
        text = "dd touches 64 MiB all the time. The target's regions are physical addresses of the machine"
        lines = [*_comment(f"{text} that failed: use ranges of System RAM in /proc/iomem of yours.")]
        lines += ["dd if=/dev/zero of=/dev/null bs=64M 2> /dev/null &", "workload=$!"]
        return "\n".join(lines)
    lines = []
    for buffer in {b.number: b for b in buffers.values()}.values():
        size, number = buffer.size, buffer.number
        what = "fills its buffer once and is stopped" if idle else "fills its buffer over and over"
        lines += _comment(f"The process to monitor: dd {what} ({wording.size(size)}).")
        lines += [f"dd if=/dev/zero of=/dev/null bs={size} 2> /dev/null &", f"pid{number}=$!"]
        lines += [f'workload="$workload $pid{number}"', f'await_buffer "$pid{number}" {size}']
        lines += [f"buffer{number}=$buffer", f'echo "dd has its buffer at $buffer{number}"']
        if idle:
            lines += ["sleep 2", f'kill -STOP "$pid{number}"']
    return "\n".join(lines)


def _staging(ctx: DamonCtx, buffers: Mapping[int, Buffer]) -> str:
    lines = list(_comment("What DAMON is asked for; all other files keep their defaults."))
    if not ctx.schemes:
        lines += _comment("The stat scheme of all memory is there to show DAMON's regions.")
    todo = writes(ctx)
    if any(PurePosixPath(write.path).name in ("path", "memcg_path") for write in todo):
        lines += _comment("The memory cgroup must exist.")
    lines.append(f"c={CTX}")
    for write in todo:
        path = write.path.removeprefix(f"{layout.KDAMONDS.path}/")
        path = path.replace(f"{CTX}/", "$c/", 1) if path.startswith(f"{CTX}/") else path
        value = _value(write, buffers)
        fits = len(f"put {path} {value}") <= COLUMNS
        lines += [f"put {path} {value}"] if fits else [f"put {path} \\", f"    {value}"]
    return "\n".join(lines)


def _run(ctx: DamonCtx, seconds: float) -> str:
    """Turn DAMON on, wait, and ask for what the failure shows in."""
    least = 3 * ctx.attrs.aggr_us / 1e6
    wait = math.ceil(min(max(seconds, least, 1.0), _MAX_SECONDS))
    commands = ["update_schemes_stats", "update_schemes_tried_regions"]
    if any(s.quota.ms or s.quota.bytes or s.quota.goals for s in ctx.schemes):
        commands.append("update_schemes_effective_quotas")
    if ctx.attrs.intervals_goal.aggrs:
        commands.append("update_tuned_intervals")
    lines = ["put 0/state on", f"sleep {wait}"]
    lines += [f"put 0/state {command}" for command in commands]
    return "\n".join(lines)


_SHOW = """\
# What DAMON says.
for file in 0/state "$c"/monitoring_attrs/intervals/*_us \\
    "$c"/monitoring_attrs/nr_regions/* "$c"/schemes/*/stats/* \\
    "$c"/schemes/*/quotas/effective_bytes \\
    "$c"/schemes/*/tried_regions/total_bytes; do
    [ -f "$file" ] || continue
    read -r value < "$file"
    echo "$file: $value"
done
for scheme in "$c"/schemes/[0-9]*; do
    regions=0
    for region in "$scheme"/tried_regions/[0-9]*; do
        [ -d "$region" ] || continue
        read -r start < "$region/start"
        read -r end < "$region/end"
        read -r nr_accesses < "$region/nr_accesses"
        read -r age < "$region/age"
        echo "$scheme $start-$end nr_accesses $nr_accesses age $age"
        regions=$((regions + 1))
    done
    echo "$scheme: $regions tried regions"
done
"""

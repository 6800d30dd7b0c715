# SPDX-License-Identifier: GPL-2.0
"""Add files and lines to the calls of a kernel's bug report, from the vmlinux of its build.

A report names a place as ``function+0x1a/0x90``: offset and size in bytes. Several static functions may share
a name; the size tells them apart, as scripts/faddr2line does.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from damon_tests.kernel.splat import without_time

_CALL = re.compile(r"(?P<name>[A-Za-z_][\w.]*)\+0x(?P<offset>[0-9a-f]+)/0x(?P<size>[0-9a-f]+)")
_RIP = re.compile(r"\bRIP: ")
_TRACE_LINE = re.compile(r"^(?:\s+(?:\? )?[A-Za-z_]|RIP: )")
_TEXT = "tTwW"
_LANDMARK, _LANDMARK_FILE = "start_kernel", "init/main.c"  # says where the tree was when it was built
_TIMEOUT_S = 120

Symbols = Mapping[str, Sequence[tuple[int, int]]]


def symbolize(text: str, vmlinux: Path) -> str:
    """Return the text with ``(file:line)`` after each place of a call trace that vmlinux knows.

    Paths are those in the kernel's source tree. The text is unchanged without vmlinux, nm or addr2line.
    """
    try:
        symbols = _symbols(vmlinux, vmlinux.stat().st_mtime_ns)
    except (OSError, subprocess.SubprocessError):
        return text
    lines = text.split("\n")
    addresses = {}
    for number, line in enumerate(lines):
        match = _CALL.search(line) if _TRACE_LINE.match(without_time(line)) else None
        address = _address(match, symbols, exact=bool(_RIP.search(line))) if match else None
        if match and address is not None:
            addresses[number] = (match.end(), address)
    known = [start for start, _ in symbols.get(_LANDMARK, ())][:1]
    lines_by_address = _source_lines(vmlinux, [*known, *(address for _, address in addresses.values())])
    tree = lines_by_address[0].partition(_LANDMARK_FILE)[0] if known and lines_by_address else ""
    places = [place.removeprefix(tree) for place in lines_by_address[len(known) :]]
    for (number, (end, _)), place in zip(addresses.items(), places, strict=False):
        lines[number] = f"{lines[number][:end]} ({place}){lines[number][end:]}" if place else lines[number]
    return "\n".join(lines)


def _address(match: re.Match[str], symbols: Symbols, *, exact: bool) -> int | None:
    """Return the address of a place. A trace has return addresses: the call is the instruction before."""
    size, offset = int(match["size"], 16), int(match["offset"], 16)
    starts = [start for start, length in symbols.get(match["name"], ()) if length == size]
    if len(starts) != 1:
        return None
    return starts[0] + (offset if exact or offset == 0 else offset - 1)


@functools.lru_cache(maxsize=4)
def _symbols(vmlinux: Path, _changed_ns: int) -> Symbols:
    """Return {name: [(address, size as kallsyms prints it)]} of the functions."""
    done = subprocess.run(
        ["nm", "-n", str(vmlinux)], capture_output=True, text=True, timeout=_TIMEOUT_S, check=True
    )
    table = [(int(a, 16), n) for a, kind, n in _rows(done.stdout) if kind in _TEXT]
    symbols: dict[str, list[tuple[int, int]]] = defaultdict(list)
    addresses = sorted({address for address, _ in table})
    following = dict(zip(addresses, [*addresses[1:], addresses[-1] if addresses else 0], strict=True))
    for address, name in table:
        # The kernel, too, takes a function to reach to the next symbol (kallsyms_lookup_size_offset).
        symbols[name].append((address, following[address] - address))
    return symbols


def _rows(nm: str) -> list[tuple[str, str, str]]:
    fields = [line.split() for line in nm.splitlines()]
    return [(f[0], f[1], f[2]) for f in fields if len(f) == 3]


def _source_lines(vmlinux: Path, addresses: Sequence[int]) -> list[str]:
    """Return "file:line" for each address, empty where the debug information has none."""
    if not addresses:
        return []
    try:
        done = subprocess.run(
            ["addr2line", "-e", str(vmlinux), *(f"{address:#x}" for address in addresses)],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [_place(line) for line in done.stdout.splitlines()]


def _place(text: str) -> str:
    path, _, rest = text.partition(":")
    line = rest.split(" ")[0]
    if path == "??" or not line.isdecimal() or line == "0":
        return ""
    return f"{os.path.normpath(path)}:{line}"

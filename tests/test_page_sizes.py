# SPDX-License-Identifier: GPL-2.0
"""Page sizes have one source: ``ports/paging.py`` in Python, sysconf() in the C programs."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from damon_tests.ports import UsageError, huge_page_size, page_size, pages_per_huge
from damon_tests.ports.paging import PAGE_SIZES, set_page_size, using_page_size

ROOT = Path(__file__).parents[1]
SOURCE = "damon_tests/ports/paging.py"
PAGES = {4095, 4096, 4097, 0x1FFF, 2 << 20}
SHIFTS = {12, 21}
NAMED_PAGE = re.compile(r"(^|_)(huge|page)(_(block|page|size|bytes|shift|mask))?$", re.IGNORECASE)

# (times, what the numbers are): they have the value of a page size by chance.
OTHERS = {
    "damon_tests/damon/tracefs.py": (1, "sizes of trace buffers in KiB"),
    "damon_tests/kernel/images/ext2.py": (1, "block size of a file system"),
    "damon_tests/kernel/images/userland.py": (1, "block size of a file system"),
    "damon_tests/kernel/guest/setup.py": (1, "mount flags"),
    "damon_tests/kernel/guest/plugin_control.py": (1, "the beginning of a file"),
    "damon_tests/reference/serve/fuse_wire.py": (4, "block sizes of a file system, longest request"),
    "damon_tests/reference/serve/fuse_direct.py": (1, "buffer of a pipe"),
    "damon_tests/reference/serve/linux_calls.py": (1, "mount flags"),
    "damon_tests/reference/live/ptrace_call.py": (1, "the highest errno"),
    "damon_tests/reference/live/engine_slices.py": (1, "slices kept"),
    "damon_tests/reference/live/write_tracking.py": (2, "a flag, runs of pages per call"),
    "damon_tests/workload/pages.py": (1, "frames"),
    "damon_tests/workload/layout.py": (1, "bytes of a program's headers"),
    "suites/monitoring/test_commands.py": (1, "a monitored range"),
    "suites/conformance/test_conformance.py": (1, "a quota"),
}
C_LITERAL = re.compile(r"\b4096\b|\b0x1000\b|(?:<<|>>) ?(?:12|21)\b|\b2 ?<< ?20\b")
C_OTHERS = {
    "agent_files.c": 1,  # PATH_LIMIT
    "agent_init.c": 3,  # lines of files
    "agent_system.c": 1,  # entropy
    "engine.h": 1,  # LINE_LEN
    "engine_program.c": 2,  # MAX_ACTIONS, MAX_BUCKETS
}


def page_literals(source: str) -> list[int]:
    """Return the lines with an integer, or a shift, that is a page size of some machine."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.LShift | ast.RShift):
            right, left = node.right, node.left
            two_mib = isinstance(left, ast.Constant) and left.value == 2 and _is(right, {20})
            if _is(right, SHIFTS) or two_mib:
                lines.append(node.lineno)
        elif _is(node, PAGES) or _is_page_by_name(node):
            lines.append(node.lineno)
    return sorted(lines)


def _is_page_by_name(node: ast.AST) -> bool:
    """Return whether a number, maybe times MIB, is given a name that says page size."""
    if not (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)):
        return False
    value = node.value
    product = isinstance(value, ast.BinOp) and isinstance(value.op, ast.Mult)
    factors = [value.left, value.right] if product else [value]
    is_number = any(isinstance(f, ast.Constant) and type(f.value) is int for f in factors)
    plain = all(isinstance(f, ast.Constant | ast.Name) for f in factors)
    return is_number and plain and NAMED_PAGE.search(node.targets[0].id) is not None


def _is(node: ast.AST, numbers: set[int]) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int and node.value in numbers


def test_no_page_size_is_written_down_elsewhere() -> None:
    literals = {}
    for path in sorted([*ROOT.glob("damon_tests/**/*.py"), *ROOT.glob("suites/**/*.py")]):
        name = path.relative_to(ROOT).as_posix()
        if name != SOURCE and "_bundle" not in name and (lines := page_literals(path.read_text())):
            literals[name] = lines
    expected = {name: times for name, (times, _) in OTHERS.items()}
    assert {name: len(lines) for name, lines in literals.items()} == expected, literals


@pytest.mark.parametrize(
    "source",
    [
        "4096",
        "x // 4096",
        "2 << 20",
        "address >> 12",
        "0x1000",
        "1 << 21",
        "HUGE = 2 * MIB",
        "PAGE_SHIFT = 14",
        "~0x1FFF",
    ],
)
def test_page_literals_are_seen(source: str) -> None:
    assert page_literals(source) == [1]


@pytest.mark.parametrize(
    "source", ["1 << 20", "'4096'", "x << 3", "2 * MIB", "4096.5", "PAGE = page_size()", "PAGES = 3"]
)
def test_other_literals_are_fine(source: str) -> None:
    assert page_literals(source) == []


def test_patterns_count_huge_pages() -> None:
    """A pattern that needs huge pages says how many, unless the page size does not matter to it."""
    sizes = re.compile(r"size: ([^,}]*?)(?: huge pages)?, [^}]*hugepage: yes")
    counted = {}
    for path in ROOT.glob("workloads/patterns/*.yaml"):
        for match in sizes.finditer(path.read_text()):
            counted[path.stem] = "huge pages" in match[0]
    assert {name for name, by_count in counted.items() if not by_count} == {"sparse_thp"}


def test_engine_and_agent_ask_for_the_page_size() -> None:
    """QEMU's plugin is left out: it reads guests of x86-64 only."""
    counts: Counter[str] = Counter()
    for path in ROOT.glob("workloads/src/*.[ch]"):
        if not path.name.startswith("qemu_plugin"):
            text = re.sub(r"/\*.*?\*/|//[^\n]*", "", path.read_text(), flags=re.DOTALL)
            counts[path.name] += len(C_LITERAL.findall(text))
    assert {name: count for name, count in counts.items() if count} == C_OTHERS
    assert "sysconf(_SC_PAGESIZE)" in (ROOT / "workloads/src/engine.c").read_text()


@pytest.mark.parametrize(("name", "kib", "huge_mib"), [("4K", 4, 2), ("16K", 16, 32), ("64K", 64, 512)])
def test_huge_page_is_what_one_page_table_maps(name: str, kib: int, huge_mib: int) -> None:
    before = page_size()
    with using_page_size(PAGE_SIZES[name]):
        assert (page_size() >> 10, huge_page_size() >> 20) == (kib, huge_mib)
        assert pages_per_huge() * page_size() == huge_page_size()
    assert page_size() == before


@pytest.mark.parametrize("size", [0, 1, 5000, 1 << 13])
def test_sizes_that_linux_does_not_have_are_refused(size: int) -> None:
    with pytest.raises(UsageError, match="4K, 16K, 64K"):
        set_page_size(size)

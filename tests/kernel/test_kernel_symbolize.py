# SPDX-License-Identifier: GPL-2.0
"""Call traces get files and lines from the vmlinux of their build."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from damon_tests.kernel.images.image import KernelImage
from damon_tests.kernel.images.source_lines import with_source_lines
from damon_tests.kernel.splat import parse_splats
from damon_tests.kernel.symbolize import symbolize

SOURCE = """\
int outer(int a);
static __attribute__((noinline)) int inner(int a)
{
	__asm__ volatile("nop");
	return a * 3;
}
__attribute__((noinline)) int outer(int a)
{
	int b = inner(a);

	return b + 1;
}
int main(int argc, char **argv) { (void)argv; return outer(argc); }
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if any(shutil.which(tool) is None for tool in ("gcc", "nm", "addr2line")):
        pytest.skip("needs gcc, nm and addr2line")
    directory = tmp_path_factory.mktemp("tree")
    (directory / "mm").mkdir()
    (directory / "mm/x.c").write_text(SOURCE)
    (directory / "init").mkdir()
    (directory / "init/main.c").write_text("void start_kernel(void) {}\n")
    command = ["gcc", "-g", "-O0", "-o", "vmlinux", "mm/x.c", "init/main.c"]
    subprocess.run(command, cwd=directory, check=True)
    return directory / "vmlinux"


def functions(program: Path) -> dict[str, tuple[int, int]]:
    """Return {name: (address, size to the next symbol)}."""
    rows = subprocess.run(["nm", "-n", str(program)], capture_output=True, text=True, check=True).stdout
    text = [(int(f[0], 16), f[2]) for f in map(str.split, rows.splitlines()) if len(f) == 3 and f[1] in "tT"]
    return {name: (start, text[i + 1][0] - start) for i, (start, name) in enumerate(text[:-1])}


def call_in(program: Path, caller: str, callee: str) -> int:
    """Return the return address of a call, as an offset in its function."""
    listing = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", str(program)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    at = next(i for i, line in enumerate(listing) if line.endswith(f"<{caller}>:"))
    call = next(i for i in range(at, len(listing)) if f"<{callee}>" in listing[i] and "call" in listing[i])
    return int(listing[call + 1].split(":")[0], 16) - functions(program)[caller][0]


def test_trace_gets_the_line_of_each_call(program: Path) -> None:
    """A return address belongs to the call before it; RIP is where the fault was."""
    known = functions(program)
    back = call_in(program, "outer", "inner")
    log = (
        "[    1.000000] WARNING: CPU: 0 PID: 7 at mm/x.c:4 inner+0x0/0x1\n"
        f"[    1.000001] RIP: 0010:inner+0x0/{known['inner'][1]:#x}\n"
        "[    1.000002] Call Trace:\n"
        f"[    1.000003]  outer+{back:#x}/{known['outer'][1]:#x}\n"
        f"[    1.000004]  ? main+0x1/{known['main'][1]:#x}\n"
        "[    1.000005]  unknown_function+0x1/0x2\n"
    )
    lines = symbolize(log, program).splitlines()
    assert lines[0].endswith("inner+0x0/0x1"), "the title is not changed: known defects are matched by it"
    assert re.search(r"\(mm/x\.c:[23]\)$", lines[1]), "where the function begins"
    assert lines[3].endswith("(mm/x.c:9)")
    assert lines[4].endswith("(mm/x.c:13)")
    assert lines[5].endswith("unknown_function+0x1/0x2")
    assert [s.title for s in parse_splats("\n".join(lines))] == [s.title for s in parse_splats(log)]


def test_size_tells_functions_of_one_name_apart(program: Path) -> None:
    size = functions(program)["inner"][1]
    line = f"[    1.000003]  inner+0x1/{size + 16:#x}"
    assert symbolize(line, program) == line


def test_without_symbols_the_text_is_unchanged(tmp_path: Path) -> None:
    line = " inner+0x1/0x10"
    assert symbolize(line, tmp_path / "vmlinux") == line
    (tmp_path / "vmlinux").write_text("no program")
    assert symbolize(line, tmp_path / "vmlinux") == line


def test_symbols_are_those_beside_the_image_or_of_its_build_directory(program: Path, tmp_path: Path) -> None:
    known = functions(program)
    log = f"[ 1.0] BUG: bad page state\n[ 1.0] Call Trace:\n[ 1.0]  main+0x1/{known['main'][1]:#x}\n"
    boot = tmp_path / "out/arch/x86/boot"
    boot.mkdir(parents=True)
    shutil.copy(program, tmp_path / "out/vmlinux")
    image = KernelImage("k", "7.3.4", boot / "bzImage", None, None)
    assert "main+0x1" in with_source_lines(log, image)
    assert "(mm/x.c:13)" in with_source_lines(log, image)
    assert "(mm/x.c:13)" in with_source_lines(log, replace(image, vmlinuz=program.parent / "bzImage"))
    assert with_source_lines(log, replace(image, vmlinuz=tmp_path / "bzImage")) == log
    quiet = log.replace("BUG: ", "")
    assert with_source_lines(quiet, image) == quiet

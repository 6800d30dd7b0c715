# SPDX-License-Identifier: GPL-2.0
"""The script of a report, run by a shell on a real kernel (marked vm)."""

from __future__ import annotations

import pytest

from damon_tests.commands import vm
from damon_tests.damon.known_defects import the_table
from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, DamonTarget, Damos, DamosQuota
from damon_tests.report import reproducer
from damon_tests.report.reproducer import Reproducer

pytestmark = pytest.mark.vm

MIB = 1 << 20
HEAP = 0x7F00_0000_0000
CTX = DamonCtx(
    "fvaddr",
    attrs=DamonAttrs(5000, 50_000, max_nr_regions=60),
    targets=(DamonTarget(124, ((HEAP, HEAP + 64 * MIB),)),),
    schemes=(
        Damos("stat", ANY),
        Damos("stat", ANY, quota=DamosQuota(bytes=20 * MIB, reset_interval_ms=3_600_000)),
    ),
)
# What is left: kdamonds, and processes of dd besides one that is started to be counted.
LEFT = """
cat /sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds
dd if=/dev/zero of=/dev/null bs=4k 2> /dev/null &
sleep 1
ps -o comm | grep -c '^dd$'
kill $!
"""


@pytest.mark.parametrize("kernel", ["debian:7.3", "debian:6.12"])
def test_script_shows_what_damon_does(kernel: str, capfd: pytest.CaptureFixture[str]) -> None:
    """All of the buffer is tried by a scheme without a quota, one quota by the other; nothing is left.

    6.12 has no quota in its first window, which is an hour long here: the script shows that too.
    """
    script = reproducer.script(
        Reproducer(CTX, "A quota", layout={"heap": (HEAP, HEAP + 64 * MIB)}, seconds=2, idle=True)
    )
    command = ["/bin/sh", "-c", script]
    both = ["/bin/sh", "-c", f'"$@"\necho status $?\n{LEFT}', "sh", *command]
    vm.run_in_guest(kernel, "1G", 2, 1, "", both)
    out, err = capfd.readouterr()
    print(out, err)
    lines = out.splitlines()
    c = "0/contexts/0"
    assert "refuses" not in err
    assert "0/state: on" in lines
    assert f"{c}/schemes/0/tried_regions/total_bytes: {64 * MIB}" in lines
    tried = next(int(line.split()[1]) for line in lines if line.startswith(f"{c}/schemes/1/stats/sz_tried: "))
    defect = the_table()["first-long-window-without-quota"]
    if defect.applies(kernel.removeprefix("debian:"), ""):
        assert tried >= 64 * MIB, "the first pass tries all memory"
    else:
        assert tried == 20 * MIB
    regions = [line.split() for line in lines if line.startswith(f"{c}/schemes/0 ")]
    assert len(regions) >= 10
    assert {int(fields[3]) for fields in regions} == {0}, "dd is stopped"
    assert sum(int(b) - int(a) for a, _, b in (f[1].partition("-") for f in regions)) == 64 * MIB
    assert lines[-3:] == ["status 0", "0", "1"], "no kdamond and no dd is left"

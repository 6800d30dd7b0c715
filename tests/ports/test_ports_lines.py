# SPDX-License-Identifier: GPL-2.0
"""Lines of /proc as they are printed."""

from __future__ import annotations

from damon_tests.ports.lines import LineFormat


def test_blanks_in_a_row_count_as_one() -> None:
    meminfo = LineFormat("{name:S}: {kib:d} kB")
    assert meminfo.read("Active(anon):    24661234 kB") == {"name": "Active(anon)", "kib": 24_661_234}
    assert meminfo.read("HugePages_Total:       0") is None


def test_hexadecimal_numbers_have_no_prefix() -> None:
    ram = LineFormat("{start:x}-{last:x} : System RAM")
    lines = ["0b001000-0bffffff : System RAM", "  0b100000-0b1fffff : Kernel code"]
    text = "\n".join([*lines, "100000000-13fffffff : System RAM"])
    ranges = [(line["start"], line["last"]) for line in ram.each(text)]
    assert ranges == [(0x0B001000, 0x0BFFFFFF), (0x100000000, 0x13FFFFFFF)]


def test_indented_lines_are_others() -> None:
    assert LineFormat("total {count:d}").read("    total 3") is None
    assert LineFormat(" total {count:d}").read("    total 3\r") == {"count": 3}

# SPDX-License-Identifier: GPL-2.0
"""The QEMU plugin's control file and report, and what it counts in a real guest."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from damon_tests.experiment.kernel_request import KernelRequest
from damon_tests.experiment.open_backend import open_backend
from damon_tests.kernel.guest.cost_plugin import parse_report
from damon_tests.kernel.guest.plugin_control import Control, Files, Order, Window
from damon_tests.kernel.guest.symbols import Symbols
from damon_tests.ports import HarnessError
from damon_tests.ports.cost import CallPath, CallTree, Cost
from damon_tests.scenario import cost_setup as setup
from damon_tests.scenario.cost_runs import on_data

NAMES = ("[user]", "[unknown]", "kdamond_fn", "damon_va_check_accesses", "asm_sysvec_apic_timer_interrupt")
COUNT = Order(Window.COST, "kdamond")
SYMBOLS = Symbols(NAMES, frozenset({4}), b"", 0)

REPORT = """\
instructions 10000 lost_frames 0
thread 1 1200 3 kdamond.0
thread 0 8000 5 swapper/0
node 1 0 1 0 0
node 2 1 2 0 500
node 3 2 3 4 600
node 4 3 4 1 100
node 5 4 3 1 7
end
"""


def cost() -> Cost:
    return parse_report(REPORT, SYMBOLS, "kdamond", 10**9)


def test_report_becomes_tree() -> None:
    tree = cost().tree
    assert tree is not None
    assert tree.calls("damon_va_check_accesses") == 4
    assert tree.own("damon_va_check_accesses") == 600
    assert tree.inclusive("kdamond_fn") == 1100
    assert tree.inclusive("kdamond_fn", "damon_va_check_accesses") == 1100
    assert tree.interrupts == 107


def test_interrupts_are_not_charged() -> None:
    assert cost().used == 1100
    assert "sysvec" not in cost().tree.folded()
    assert "asm_sysvec_apic_timer_interrupt 100" in cost().tree.folded(interrupts=True)


def test_threads_are_counted_by_name() -> None:
    result = cost()
    assert result.switches == 3
    assert result.threads["swapper/0"].used == 8000


def test_whole_guest_is_rooted_at_threads() -> None:
    tree = parse_report(REPORT, SYMBOLS, "", 10**9).tree
    assert tree.inclusive("kdamond.0") == 1100
    assert tree.folded().splitlines()[0] == "kdamond.0;kdamond_fn 500"


def test_below_makes_a_function_the_root() -> None:
    below = cost().tree.below("damon_va_check_accesses")
    assert below.folded() == "damon_va_check_accesses 600\n"


def test_folded_text_merges_equal_paths() -> None:
    tree = CallTree((CallPath(("a", "b"), 1, 5), CallPath(("a",), 1, 2)))
    assert tree.folded() == "a;b 5\na 2\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (REPORT.removesuffix("end\n"), "cut off"),
        ("", "cut off"),
        (REPORT.replace("lost_frames 0", "lost_frames 9"), "9 frames were lost"),
    ],
)
def test_broken_report_is_refused(text: str, words: str) -> None:
    with pytest.raises(HarnessError, match=words):
        parse_report(text, SYMBOLS, "kdamond", 1)


def test_orders_alternate(tmp_path: Path) -> None:
    """Odd orders begin a window and even orders end it, whatever the order before."""
    control = Control(tmp_path)
    begins = (True, False, True, True, False)
    numbers = [control.order(begin, 0, COUNT, Files(tmp_path)) for begin in begins]
    assert numbers == [1, 2, 3, 5, 6]
    assert not control.done(6)


def test_errors_of_the_plugin_are_raised(tmp_path: Path) -> None:
    control = Control(tmp_path)
    number = control.order(True, 0, COUNT, Files(tmp_path))
    with control.path.open("r+b") as file:
        file.seek(8)
        file.write(struct.pack("<II", number, 28))
    with pytest.raises(HarnessError, match="No space left"):
        control.done(number)


def test_long_path_is_refused(tmp_path: Path) -> None:
    control = Control(tmp_path)
    with pytest.raises(HarnessError, match="too long"):
        control.order(True, 0, COUNT, Files(tmp_path / ("x" * 2000)))


@pytest.mark.vm
def test_instructions_are_the_same_in_every_window(tmp_path: Path) -> None:
    """Over idle memory, every page-table walk executes the same instructions, in any window."""
    with open_backend(KernelRequest("debian:7.3"), tmp_path) as backend:
        pattern = setup.still(16 << 20)
        with setup.watched(backend, pattern, on_data(nr_regions=50), seed=1) as run:
            trees = [setup.tree_of(run.cost(0.3)) for _ in range(2)]
    for tree in trees:
        walks = tree.calls("walk_pgd_range")
        assert walks == 2 * 50 * tree.calls("damon_va_check_accesses")
        assert tree.own("walk_pgd_range") % walks == 0
        assert tree.instructions > 0.9 * tree.inclusive("kdamond_fn") > 0
    per_walk = {tree.own("walk_pgd_range") // tree.calls("walk_pgd_range") for tree in trees}
    assert len(per_walk) == 1

# SPDX-License-Identifier: GPL-2.0
"""Symbols for the QEMU plugin, from a guest's kallsyms."""

from __future__ import annotations

import struct

import pytest

from damon_tests.kernel.guest.symbols import Kind, kind_of, parse
from damon_tests.ports import HarnessError, NotSupported

KALLSYMS = """\
ffffffff82400000 D init_task
ffffffff81000500 t damon_va_check_accesses
ffffffff810004f0 t __pfx_damon_va_check_accesses
ffffffff81000100 T __switch_to_asm
ffffffff81000180 T __pi___x86_indirect_thunk_rax
ffffffff81000180 T __x86_indirect_thunk_rax
ffffffff81000200 T asm_sysvec_apic_timer_interrupt
ffffffff81000900 t damon_va_check_accesses.cold
ffffffff81000500 W alias_of_the_same_place
ffffffff81000700 b not_a_function
ffffffffc0000000 t of_a_module\t[zram]
"""


def test_table_is_sorted_and_numbers_functions() -> None:
    known = parse(KALLSYMS)
    rows = list(struct.iter_unpack("<QII", known.table))
    assert [hex(addr) for addr, _, _ in rows] == [
        "0xffffffff81000100",
        "0xffffffff81000180",
        "0xffffffff81000200",
        "0xffffffff81000500",
        "0xffffffff81000900",
        "0xffffffffc0000000",
    ]
    assert [known.names[number] for _, number, _ in rows] == [
        "__switch_to_asm",
        "__x86_indirect_thunk_rax",
        "asm_sysvec_apic_timer_interrupt",
        "damon_va_check_accesses",
        "damon_va_check_accesses",  # its cold part
        "of_a_module",
    ]
    assert [kind for _, _, kind in rows[:4]] == [Kind.SWITCH, Kind.THUNK, Kind.INTERRUPT, Kind.FUNCTION]
    assert known.init_task == 0xFFFFFFFF82400000
    assert {known.names[number] for number in known.interrupts} == {"asm_sysvec_apic_timer_interrupt"}
    assert known.names[:2] == ("[user]", "[unknown]")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("asm_exc_page_fault", Kind.INTERRUPT),
        ("asm_common_interrupt", Kind.INTERRUPT),
        ("irq_entries_start", Kind.VECTOR_STUB),
        ("__x86_indirect_thunk_rax", Kind.THUNK),
        ("__x86_return_thunk", Kind.THUNK),
        ("__SCT__cond_resched", Kind.THUNK),
        ("preempt_schedule_thunk", Kind.FUNCTION),
        ("asm_load_gs_index", Kind.FUNCTION),
        ("__switch_to", Kind.FUNCTION),
    ],
)
def test_symbol_name_gives_the_kind(name: str, kind: Kind) -> None:
    assert kind_of(name) is kind


def test_hidden_addresses_are_not_supported() -> None:
    with pytest.raises(NotSupported, match="kptr_restrict"):
        parse("0000000000000000 T __switch_to_asm\n0000000000000000 D init_task\n")


def test_kernel_without_switch_is_refused() -> None:
    with pytest.raises(HarnessError, match="__switch_to_asm"):
        parse("ffffffff82400000 D init_task\nffffffff81000500 t damon_va_check_accesses\n")

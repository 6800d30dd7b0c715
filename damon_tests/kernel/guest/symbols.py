# SPDX-License-Identifier: GPL-2.0
"""Convert /proc/kallsyms of a guest into the sorted function table that the QEMU plugin reads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from damon_tests.ports import HarnessError, NotSupported

USER, UNKNOWN = "[user]", "[unknown]"
"""Names for code outside of the kernel's functions; their ids are 0 and 1."""


class Kind(IntEnum):
    """How the plugin treats code at a symbol: ``enum symbol_kind`` of workloads/src/qemu_plugin.h."""

    FUNCTION = 0
    INTERRUPT = 1
    VECTOR_STUB = 2
    THUNK = 3
    SWITCH = 4


_RECORD = np.dtype([("addr", "<u8"), ("id", "<u4"), ("kind", "<u4")])
_TEXT = frozenset("tTwW")
_KINDS = (
    (Kind.SWITCH, re.compile(r"__switch_to_asm$")),
    (Kind.INTERRUPT, re.compile(r"asm_(exc_|sysvec_|common_interrupt$|spurious_interrupt$)")),
    (Kind.VECTOR_STUB, re.compile(r"(irq|spurious)_entries_start$")),
    (Kind.THUNK, re.compile(r"__SCT__|__x86_indirect_\w*thunk|\w+_return_thunk$|srso_(alias_)?safe_ret$")),
)
_INTERRUPTS = (Kind.INTERRUPT, Kind.VECTOR_STUB)


@dataclass(frozen=True)
class Symbols:
    """``names``: by id. ``table``: addresses, ids and kinds for the plugin. ``init_task``: its address."""

    names: tuple[str, ...]
    interrupts: frozenset[int]
    table: bytes
    init_task: int


def parse(kallsyms: str) -> Symbols:
    """Return the functions in the text of /proc/kallsyms.

    Parts that the compiler moved elsewhere (``f.cold``) and aliases for early code (``__pi_f``) count as the
    function; padding before functions (``__pfx_f``) is left out. Raises NotSupported when the kernel hides
    its addresses, HarnessError when a symbol that counting needs is missing.
    """
    functions: dict[int, str] = {}
    init_task = 0
    for line in kallsyms.splitlines():
        addr, kind, name = line.split(None, 3)[:3]
        if name == "init_task":
            init_task = int(addr, 16)
        elif kind in _TEXT and not name.startswith("__pfx_"):
            functions.setdefault(int(addr, 16), name.removeprefix("__pi_").removesuffix(".cold"))
    if not any(functions):
        raise NotSupported("addresses in /proc/kallsyms", remedy="set kernel.kptr_restrict to 0 as root")
    if not init_task or "__switch_to_asm" not in functions.values():
        raise HarnessError(
            "/proc/kallsyms has no init_task or no __switch_to_asm: the running thread cannot be identified"
        )
    return _numbered(functions, init_task)


def _numbered(functions: dict[int, str], init_task: int) -> Symbols:
    ids = {USER: 0, UNKNOWN: 1}
    table = np.zeros(len(functions), _RECORD)
    interrupts = set()
    for row, addr in enumerate(sorted(functions)):
        name = functions[addr]
        number, kind = ids.setdefault(name, len(ids)), kind_of(name)
        table[row] = addr, number, kind
        if kind in _INTERRUPTS:
            interrupts.add(number)
    return Symbols(tuple(ids), frozenset(interrupts), table.tobytes(), init_task)


def kind_of(name: str) -> Kind:
    """Return how the plugin treats the function of this name."""
    return next((kind for kind, pattern in _KINDS if pattern.match(name)), Kind.FUNCTION)

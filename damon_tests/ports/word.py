# SPDX-License-Identifier: GPL-2.0
"""The width of ``unsigned long`` on the machine under test, which most of DAMON's numbers are.

As for its page size (``ports.paging``): the session sets it before any test is collected, from the kernel
that is asked for. A reference that a test compares with has the same width.
"""

from __future__ import annotations

from damon_tests.ports.errors import UsageError

DEFAULT_WORD_BITS = 64
_WIDTHS = (32, DEFAULT_WORD_BITS)
_word_bits = DEFAULT_WORD_BITS


def word_bits() -> int:
    """Return the bits of an ``unsigned long``."""
    return _word_bits


def unsigned_long_max() -> int:
    """Return the largest number that files for an ``unsigned long`` accept (ULONG_MAX)."""
    return (1 << _word_bits) - 1


def user_space_end() -> int:
    """Return an address at or above which no process has memory, though ``/proc/PID/maps`` lists pages of the
    kernel there: vsyscall on x86-64, vectors on 32-bit Arm."""
    return 1 << 63 if _word_bits == DEFAULT_WORD_BITS else 0xC000_0000


def set_word_bits(word_bits: int) -> None:
    """Use this width from now on, in this process. Raises UsageError for one that Linux cannot have."""
    global _word_bits  # noqa: PLW0603 - one machine under test for each process
    if word_bits not in _WIDTHS:
        raise UsageError(f"{word_bits} bits: Linux runs on processors of {_WIDTHS[0]} and {_WIDTHS[1]} bits")
    _word_bits = word_bits

# SPDX-License-Identifier: GPL-2.0
"""The page size of the machine under test. No other module may name a page size of its own.

A run tests one machine: the session sets its page size before any test is collected, from the kernel that is
asked for; a machine that answers with another page size is refused. A reference that a test compares with has
the same pages.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from damon_tests.ports.errors import UsageError

DEFAULT_PAGE_BYTES = 4096
"""The page size of x86, of arm64 unless it was built with others, and of a reference that names none."""

PAGE_SIZES = {"4K": DEFAULT_PAGE_BYTES, "16K": 4 * DEFAULT_PAGE_BYTES, "64K": 16 * DEFAULT_PAGE_BYTES}
"""The page sizes that Linux on arm64 can have, by name."""

_TABLE_ENTRY_BYTES = 8
_page_bytes = DEFAULT_PAGE_BYTES


def page_size() -> int:
    """Return the bytes of a page of the machine under test."""
    return _page_bytes


def pages_per_huge() -> int:
    """Return the pages of a huge page: the entries of one page of its page table."""
    return page_size() // _TABLE_ENTRY_BYTES


def huge_page_size() -> int:
    """Return the bytes of its huge pages.

    2 MiB with pages of 4 KiB, 32 MiB with 16 KiB, 512 MiB with 64 KiB.
    """
    return pages_per_huge() * page_size()


def set_page_size(page_bytes: int) -> None:
    """Use this page size from now on, in this process. Raises UsageError for one that Linux cannot have."""
    global _page_bytes  # noqa: PLW0603 - one machine under test for each process
    if page_bytes not in PAGE_SIZES.values():
        known = ", ".join(PAGE_SIZES)
        raise UsageError(f"pages of {page_bytes} bytes: DAMON is tested with pages of {known}")
    _page_bytes = page_bytes


@contextmanager
def using_page_size(page_bytes: int) -> Iterator[None]:
    """Use this page size within the block."""
    before = _page_bytes
    set_page_size(page_bytes)
    try:
        yield
    finally:
        set_page_size(before)

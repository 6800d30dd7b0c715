# SPDX-License-Identifier: GPL-2.0
"""What all of the harness's own tests share: which of them run by default."""

from __future__ import annotations

import os

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that boot a real kernel take minutes under emulation: they run when asked for."""
    if os.environ.get("DAMON_TESTS_VM") == "1":
        return
    skip = pytest.mark.skip(
        reason="boots a real kernel in a VM; to run it: DAMON_TESTS_VM=1 pytest -m vm tests"
    )
    for item in items:
        if item.get_closest_marker("vm"):
            item.add_marker(skip)

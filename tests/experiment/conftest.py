# SPDX-License-Identifier: GPL-2.0
"""A fake kernel with DAMON and its modules, and leases of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_lease import Leases
from fake_sysfs import FakeDamon


@pytest.fixture
def damon(tmp_path: Path) -> FakeDamon:
    (tmp_path / "root").mkdir()
    return FakeDamon(tmp_path / "root", ("damon_stat", "damon_reclaim", "damon_lru_sort"))


@pytest.fixture
def leases(damon: FakeDamon, tmp_path: Path) -> Leases:
    return Leases(damon, tmp_path)

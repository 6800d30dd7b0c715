# SPDX-License-Identifier: GPL-2.0
"""Leases of a FakeDamon, below a test's own directory."""

from __future__ import annotations

from pathlib import Path

from fake_sysfs import FakeDamon

from damon_tests.experiment.lease import Lease, acquire
from damon_tests.kernel.host.journal import Journal


class Leases:
    """Leases of one fake kernel, with what they printed."""

    def __init__(self, damon: FakeDamon, directory: Path) -> None:
        self.damon = damon
        self.directory = directory
        self.notified: list[str] = []

    def journal(self) -> Journal:
        return Journal(self.directory / "journal", root=self.damon.root, guard=False)

    def acquire(self, **options: object) -> Lease:
        options = {
            "wait_s": 0,
            "lock_directory": self.directory / "lock",
            "notify": self.notified.append,
        } | options
        return acquire(self.damon, self.journal(), "host", **options)  # type: ignore[arg-type]

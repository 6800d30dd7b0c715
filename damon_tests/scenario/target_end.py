# SPDX-License-Identifier: GPL-2.0
"""End a target and its DAMON, in either order."""

from __future__ import annotations

from damon_tests.experiment.live import Live
from damon_tests.ports import NSEC_PER_SEC
from damon_tests.workload.target import RunningTarget

PATIENCE_NS = 60 * NSEC_PER_SEC


def end_target_and_damon(run: Live, target: RunningTarget, *, target_first: bool) -> None:
    """Stop the target and wait for the end of kdamond 0, or turn kdamond 0 off and then stop the target."""
    if target_first:
        target.stop()
        run.session.record(PATIENCE_NS, until=lambda: not run.session.running())
    else:
        run.client.command(0, "off")
        target.stop()

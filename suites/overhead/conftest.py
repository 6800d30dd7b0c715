# SPDX-License-Identifier: GPL-2.0
"""Budgets of the overhead suite: ours, or the user's."""

from pathlib import Path

import pytest

from damon_tests.judge.cost import budget
from damon_tests.ports import NotSupported

OURS = Path(__file__).with_name("budgets.yaml")


@pytest.fixture
def budgets(request, backend):
    """{metric: budget}: ours, those of ``--budgets FILE`` instead where both have a metric."""
    mine = request.config.getoption("budgets")
    theirs = budget.load(Path(mine)) if mine else {}
    if backend.kernel_config().leaves_out("CONFIG_PREEMPT_RT") is not False:
        return budget.load(OURS) | theirs
    if not theirs:
        raise NotSupported(
            "budgets of kernels with PREEMPT_RT, whose locks execute more instructions",
            remedy="give some (--budgets FILE)",
        )
    return theirs

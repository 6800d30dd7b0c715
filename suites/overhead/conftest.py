# SPDX-License-Identifier: GPL-2.0
"""Budgets of the overhead suite: ours, or the user's."""

from pathlib import Path

import pytest

from damon_tests.judge.cost import budget

OURS = Path(__file__).with_name("budgets.yaml")


@pytest.fixture(scope="session")
def budgets(request):
    """{metric: budget}: ours, those of ``--budgets FILE`` instead where both have a metric."""
    mine = request.config.getoption("budgets")
    return budget.load(OURS) | (budget.load(Path(mine)) if mine else {})

# SPDX-License-Identifier: GPL-2.0
"""The ``program`` fixture: real programs, watched while an emulator records what they access."""

import pytest

from damon_tests.scenario.program_fixture import ProgramFixture


@pytest.fixture
def program(experiment):
    """Return a function that makes runs of a program; see ``ProgramFixture``."""
    return ProgramFixture(experiment.backend, experiment.test_id, experiment.run_seed, experiment.keep)

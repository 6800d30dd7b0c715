# SPDX-License-Identifier: GPL-2.0
"""What all of the harness's own tests share: which of them run by default."""

from __future__ import annotations

import os
import sys

import pytest

# Seeds of runs that tests make do not change from run to run.
os.environ.pop("CI", None)
# Tests start a thousand Python processes: each would compile again what it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

OPT_IN = {
    "vm": ("DAMON_TESTS_VM", "boots a real kernel in a VM"),
    "long": ("DAMON_TESTS_LONG", "takes minutes, and downloads programs of others"),
}


@pytest.fixture(scope="session", autouse=True)
def _runs_without_hypothesis() -> None:
    """Importing hypothesis takes a second of each run that tests make, and these runs have no use for it.

    A fixture, not a statement of this file: the workers of this session do need its plugin.
    """
    os.environ["PYTEST_ADDOPTS"] = f"{os.environ.get('PYTEST_ADDOPTS', '')} -p no:hypothesispytest".strip()


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Let workers that have no tests left take some of the others: tests take from 1 ms to 20 s."""
    if config.option.numprocesses and config.option.dist == "no":
        config.option.dist = "worksteal"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that take minutes run when asked for, by their marker's environment variable."""
    for marker, (variable, why) in OPT_IN.items():
        if os.environ.get(variable) == "1":
            continue
        skip = pytest.mark.skip(reason=f"{why}; to run it: {variable}=1 pytest -m {marker} tests")
        for item in items:
            if item.get_closest_marker(marker):
                item.add_marker(skip)

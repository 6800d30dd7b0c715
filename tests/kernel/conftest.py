# SPDX-License-Identifier: GPL-2.0
"""Fixtures shared by the tests of machines, agents and journals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_under_test import agent_machine

from damon_tests.kernel.agent.machine import AgentMachine
from damon_tests.kernel.host.journal import Journal
from damon_tests.kernel.host.machine import LocalMachine
from damon_tests.ports import Machine


@pytest.fixture(scope="module")
def agent() -> Iterator[AgentMachine]:
    """The real agent on a socket of this machine, shared by all tests of a module."""
    with agent_machine() as (machine, _):
        yield machine


@pytest.fixture(params=["agent", "local"])
def machine(request: pytest.FixtureRequest) -> Machine:
    """A machine behind the agent, and this machine: both must keep the port's promises."""
    if request.param == "local":
        return LocalMachine()
    started: AgentMachine = request.getfixturevalue("agent")
    return started


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory that stands in for "/", with a single sysctl."""
    path = tmp_path / "root"
    (path / "proc/sys/vm").mkdir(parents=True)
    (path / "proc/sys/vm/swappiness").write_text("60\n")
    return path


@pytest.fixture
def journal(root: Path, tmp_path: Path) -> Journal:
    """A journal without a guard; the guard has its own tests."""
    return Journal(tmp_path / "journal", root=root, guard=False)

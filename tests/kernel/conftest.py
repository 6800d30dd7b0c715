# SPDX-License-Identifier: GPL-2.0
"""What several tests of the machine's layer start from."""

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
    """The real agent on a socket of this machine, one for all tests of a module."""
    with agent_machine() as (machine, _):
        yield machine


@pytest.fixture(params=["agent", "local"])
def machine(request: pytest.FixtureRequest) -> Machine:
    """What the port promises holds behind the agent and here."""
    if request.param == "local":
        return LocalMachine()
    started: AgentMachine = request.getfixturevalue("agent")
    return started


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory that stands for "/" and has one sysctl."""
    path = tmp_path / "root"
    (path / "proc/sys/vm").mkdir(parents=True)
    (path / "proc/sys/vm/swappiness").write_text("60\n")
    return path


@pytest.fixture
def journal(root: Path, tmp_path: Path) -> Journal:
    """Without a guard: what a guard does has tests of its own."""
    return Journal(tmp_path / "journal", root=root, guard=False)

# SPDX-License-Identifier: GPL-2.0
"""Fixtures that start the engine on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_starter import Starter

from damon_tests.kernel.host.machine import LocalMachine
from damon_tests.kernel.images.programs import program
from damon_tests.ports import NotSupported


@pytest.fixture(scope="session")
def engine_path() -> str:
    try:
        return str(program("damon-tests-engine"))
    except NotSupported as error:
        pytest.skip(str(error))


@pytest.fixture
def machine() -> LocalMachine:
    return LocalMachine()


@pytest.fixture
def start(machine: LocalMachine, engine_path: str, tmp_path: Path) -> Iterator[Starter]:
    starter = Starter(machine, engine_path, tmp_path)
    yield starter
    for target in starter.started:
        target.stop()

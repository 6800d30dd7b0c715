# SPDX-License-Identifier: GPL-2.0
"""Figures that tests of modules compare."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from damon_tests.plugin import RUN
from damon_tests.report import artifacts


@pytest.fixture
def figures(request) -> Callable[[str, str, object], None]:
    """``figures(title, text, data)``: keep figures that a test compares, to read and to compute with."""

    def keep(title: str, text: str, data: object) -> None:
        log = request.config.stash[RUN].log
        directory = artifacts.attempt_directory(log.directory, request.node.nodeid, 1)
        for name, content in (("figures.txt", text), ("figures.json", json.dumps(data, indent=1) + "\n")):
            (directory / name).write_text(content, encoding="utf-8")
            log.artifact(request.node.nodeid, directory / name, "figures", title=title, attempt=1)

    return keep

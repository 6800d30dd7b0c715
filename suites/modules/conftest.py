# SPDX-License-Identifier: GPL-2.0
"""The fixture of the modules' suites: ``with module(DamonReclaim(...), "idle") as run``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

import pytest

from damon_tests.damon.module_params import ModuleParameters
from damon_tests.experiment.experiment import derive_seed
from damon_tests.kernel.guest.topology import Topology
from damon_tests.patterns import load
from damon_tests.patterns.spec import Pattern
from damon_tests.plugin import RUN
from damon_tests.report import artifacts
from damon_tests.scenario.module_run import ModuleRun, hull, module_run

Run = Callable[..., AbstractContextManager[ModuleRun]]


@pytest.fixture
def module(backend, request, expect) -> Run:
    """A module that is staged, not enabled, beside a target that runs.

    ``watch``: "target" sets the monitored region to where the target's memory is, "ram" leaves it.
    ``topology``: of a machine of its own; None: the usual one, with what the test's markers need.
    """

    @contextmanager
    def run(
        parameters: ModuleParameters,
        pattern: str | Pattern | None = None,
        *,
        watch: str = "target",
        topology: Topology | None = None,
        **options,
    ) -> Iterator[ModuleRun]:
        seed = derive_seed(request.config.option.seed, request.node.nodeid, 1, "target")
        if topology is None:
            subject = request.getfixturevalue("subject")
        else:
            subject = backend.subject(seed, topology)
            request.addfinalizer(subject.close)
        patterns = [] if pattern is None else [load.load(pattern) if isinstance(pattern, str) else pattern]
        with module_run(subject, parameters, patterns, seed, **options) as running:
            if patterns and watch == "target":
                start, end = hull(running.targets)
                unit = parameters.addr_unit
                asked = {"monitor_region_start": start // unit, "monitor_region_end": end // unit}
                running.session.stage(replace(parameters, **asked))
            yield running
        splats = subject.splats()
        expect.nothing("kernel complaints", splats, because="a module causes no kernel complaint")

    return run


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

# SPDX-License-Identifier: GPL-2.0
"""``damon-tests faults NAME``: what is wrong about a DAMON, and which test of the suites notices it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import yaml

from damon_tests import bundle
from damon_tests.judge import features
from damon_tests.reference.faults.fault import Fault


def killers() -> Mapping[str, str]:
    """Return a test that notices it for each fault of which one was measured (``suites/killers.yaml``)."""
    text = (bundle.suites_dir() / "killers.yaml").read_text(encoding="utf-8")
    table: dict[str, str] = yaml.safe_load(text)
    return table


def described(fault: Fault, killer: str | None) -> Iterator[str]:
    """Yield the lines about one fault. ``killer``: the test that notices it, None if none is on record."""
    run = f"damon-tests faults {fault.name} --run"
    yield f"{fault.name} ({fault.area})"
    yield f"  imitates  {fault.imitates}"
    if killer is None:
        yield f"  noticed   by no test on record; find out with: {run}"
        return
    if killer == features.ROW:
        yield f"  noticed   by {killer}, which every run judges"
        yield f"  see it    damon-tests run --fault {fault.name} suites/monitoring/test_tree.py"
        return
    yield f"  noticed   by {killer}"
    yield f"  see it    damon-tests run --fault {fault.name} '{killer}'"
    yield f"  by others {run}"

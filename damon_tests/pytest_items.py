# SPDX-License-Identifier: GPL-2.0
"""What pytest's items say about a DAMON test: its requirements, known defects, profile, and machine."""

from __future__ import annotations

from pathlib import Path
from traceback import walk_tb

import pytest

from damon_tests.damon import known_defects
from damon_tests.damon.known_defects import KnownDefect
from damon_tests.experiment.requirements import Needs, Requirements, combine
from damon_tests.kernel.guest.topology import Topology
from damon_tests.ports import UsageError


def is_of_full_profile(item: pytest.Item) -> bool:
    return any(marker.args == ("full",) for marker in item.iter_markers("profile"))


def deselect(config: pytest.Config, items: list[pytest.Item], ids: set[str]) -> None:
    """Take the tests with these ids out of a run, and report them to pytest."""
    if ids:
        config.hook.pytest_deselected(items=[i for i in items if i.nodeid in ids])
        items[:] = [i for i in items if i.nodeid not in ids]


def is_damon_test(item: pytest.Item) -> bool:
    return "expect" in getattr(item, "fixturenames", ())


def requirements(item: pytest.Item) -> Requirements:
    """Return all ``needs`` markers of a test, its class and its module together."""
    markers = [Requirements(m.args, needs=Needs(**m.kwargs)) for m in item.iter_markers("needs")]
    return combine(*markers)


KNOWN_DEFECT, SPOILED_BY = "known_defect", "spoiled_by"
"""The markers that name a defect: of a test that shows it, and of one to which it leaves nothing."""


def marked_defects(item: pytest.Item, marker: str = KNOWN_DEFECT) -> list[KnownDefect]:
    """Return the defects that a test is marked with. Raises pytest.UsageError for a key that no table has."""
    keys = [m.args[0] if len(m.args) == 1 and not m.kwargs else None for m in item.iter_markers(marker)]
    if not keys:
        return []
    try:
        table = known_defects.table_for(item.path)
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None
    for key in keys:
        if key not in table:
            raise pytest.UsageError(
                f"{item.nodeid}: {marker} takes one key of {known_defects.FILE}, not {key!r};"
                f" there are {', '.join(table)}"
            )
    return [table[str(key)] for key in keys]


def at_its_line(error: BaseException, item: pytest.Function) -> BaseException:
    """Return the error with the line of the test's file, if the author of the test made it.

    That is a request that cannot be (UsageError), or a failed ``assert``.
    """
    kind = next((k for k in (UsageError, AssertionError) if isinstance(error, k)), None)
    lines = [
        line for frame, line in walk_tb(error.__traceback__) if Path(frame.f_code.co_filename) == item.path
    ]
    return kind(f"{item.path.name}:{lines[-1]}: {error}") if kind and lines else error


def machine_needed(item: pytest.Item) -> Topology:
    """Return the machine that a guest is made with for a test."""
    return requirements(item).needs.topology()

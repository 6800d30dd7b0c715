# SPDX-License-Identifier: GPL-2.0
"""Hold the skips of a run to a list (``--allow-skips``): a skip that it does not allow is a FAIL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from damon_tests.experiment.allowed_skips import AllowedSkips, load
from damon_tests.judge.conclude import Conclusion
from damon_tests.judge.verdict import Measurement, Verdict
from damon_tests.ports import NotSupported
from damon_tests.pytest_run import RUN, test_id

_ALLOWED = "skip allowed: "
_LIST = pytest.StashKey[AllowedSkips]()


def allowed(config: pytest.Config) -> AllowedSkips | None:
    """Return the list of the command line, read once; None without one. Raises UsageError."""
    path = config.option.allow_skips
    if path is not None and _LIST not in config.stash:
        config.stash[_LIST] = load(Path(path))
    return config.stash.get(_LIST, None)


def held_to_list(item: pytest.Item, conclusion: Conclusion, error: BaseException | None) -> Conclusion:
    """Return the conclusion, or FAIL for a skip that the list does not allow; log what allows it."""
    skips = allowed(item.config)
    if conclusion.verdict is not Verdict.SKIP or skips is None or not isinstance(error, NotSupported):
        return conclusion
    covering = skips.covering(test_id(item), error.missing)
    if covering is None:
        return Conclusion(Verdict.FAIL, f"{skips.path} does not allow this skip: {conclusion.reason}")
    for entry in covering:
        measurement = Measurement(f"{_ALLOWED}{entry.name}", 1, "count")
        item.config.stash[RUN].log.measurement(test_id(item), measurement)
    return conclusion


def never_made(config: pytest.Config, run: dict[str, Any]) -> list[str]:
    """Return the entries of the list that no test of the run needed: they can go."""
    skips = allowed(config)
    if skips is None:
        return []
    names = [m["name"] for test in run["tests"] for m in test["measurements"]]
    return skips.never_used({name.removeprefix(_ALLOWED) for name in names if name.startswith(_ALLOWED)})

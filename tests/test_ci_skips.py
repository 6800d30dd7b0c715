# SPDX-License-Identifier: GPL-2.0
"""The lists of allowed skips name exactly what the suites of their series miss, no more and no less."""

from __future__ import annotations

from pathlib import Path

import module_from_file
import pytest

from damon_tests.experiment.allowed_skips import load

ROOT = Path(__file__).resolve().parents[1]
SERIES_OF = {"debian-newest.yaml": "7.3", "debian-stable.yaml": "6.12"}

skip_table = module_from_file.load(ROOT / "ci" / "skip_table.py")


@pytest.fixture(scope="module")
def quick_tests():
    return [test for test in skip_table.suite_tests() if not test.full]


def test_each_list_has_a_series():
    assert {path.name for path in (ROOT / "ci" / "skips").glob("*.yaml")} == SERIES_OF.keys()


@pytest.mark.parametrize("name", SERIES_OF)
def test_list_allows_what_the_series_misses_and_nothing_else(name, quick_tests):
    skips = load(ROOT / "ci" / "skips" / name)
    capabilities = skip_table.capabilities_of(SERIES_OF[name])
    used = set()
    for test in quick_tests:
        missing = skip_table.missing_of(test, capabilities, SERIES_OF[name])
        covering = skips.covering(test.id, missing) if missing else ()
        assert covering is not None, f"{name} does not allow {test.id} to miss {missing}"
        used |= {entry.name for entry in covering}
    texts = {text.partition(": ")[2].strip("'\"") for text in skip_table.skip_themselves()}
    at_run_time = {entry.name for entry in skips.entries if entry.missing in texts}
    assert skips.never_used(used | at_run_time) == [], "no test needs these entries: remove them"

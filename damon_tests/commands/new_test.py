# SPDX-License-Identifier: GPL-2.0
"""``damon-tests new-test``: the skeleton of a test, which passes as it is written."""

from __future__ import annotations

import re
from pathlib import Path

from damon_tests.ports import UsageError
from damon_tests.ports.output_file import write_text

_NAME = re.compile(r"[a-z][a-z0-9_]*")

SKELETON = '''# SPDX-License-Identifier: GPL-2.0
"""{title}: replace this line by what the tests of this file are about."""

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.judge.verdict import Measurement
from damon_tests.scenario.invariants import invariants

ATTRS = DamonAttrs(min_nr_regions=10, max_nr_regions=100)


# Every way to run and to judge is explained, with examples, in suites/README.md.
@pytest.mark.needs("ops.fvaddr", "damon_aggregated")
def test_{name}(live, expect):
    """Memory that nobody touches is reported without accesses. Say here what your test shows to hold."""
    with live("idle", DamonCtx("fvaddr", attrs=ATTRS), cover="regions") as run:
        run.record(2, aggregations=10)
    expect.add(invariants(run))
    # Accessed bits from before monitoring began may count in the first half second.
    counts = [float(snap.nr_accesses.max()) for snap in run.recording().snapshots[5:]]
    m = Measurement("most accesses of a region", max(counts), "samples", tuple(counts))
    expect.equal(m, 0, because="nobody touches this memory (I25)", kind="closed form")
'''


def write(name: str) -> int:
    """Write test_NAME.py into the folder that ``name`` names, else the current one, and say how to run it; 0.

    ``name``: what the test shows, in small letters, digits and underscores, such as
    suites/monitoring/idle_memory_is_silent. Raises UsageError for another one, a missing folder, and a file
    that exists.
    """
    given = Path(name)
    base = given.name.removesuffix(".py").removeprefix("test_")
    if not _NAME.fullmatch(base):
        raise UsageError(
            f"{name!r} is no name for a test: use small letters, digits and underscores, beginning with a"
            " letter, such as idle_memory_is_silent"
        )
    path = given.parent / f"test_{base}.py"
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent}: no such folder")
    if path.exists() or path.is_symlink():
        raise UsageError(f"{path} exists; give another name")
    write_text(path, SKELETON.format(name=base, title=base.replace("_", " ").capitalize()))
    print(f"wrote {path}\nrun it: damon-tests run {path}")
    return 0

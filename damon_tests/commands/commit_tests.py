# SPDX-License-Identifier: GPL-2.0
"""Choose tests for a commit: what its changed files touch runs first, the rest after."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from damon_tests import bundle

SERIES = (
    "suites/monitoring/test_hot_cold.py",
    "suites/monitoring/test_idle.py",
    "suites/monitoring/test_commands.py",
    "suites/monitoring/test_nr_regions.py",
    "suites/ops/test_paddr.py",
    "suites/schemes/test_access_pattern.py",
    "suites/schemes/test_quota_size.py",
    "suites/schemes/test_scheme_stats.py",
)
"""For each commit of a series: what a guest does in about two minutes, from all parts of DAMON."""

# For each file of DAMON: where its tests are, and a word that the files of a suite have to contain to come
# first (empty: all of them do). The order is that of the runs.
_TOUCHED: dict[str, tuple[tuple[str, str], ...]] = {
    "mm/damon/paddr.c": (("ops", "paddr"), ("schemes", "paddr"), ("ops", "")),
    "mm/damon/vaddr.c": (("ops", "vaddr"), ("schemes", "action"), ("ops", "")),
    "mm/damon/ops-common.c": (("ops", ""), ("schemes", "priority"), ("schemes", "action")),
    "mm/damon/core.c": (("monitoring", ""), ("schemes", "")),
    "include/linux/damon.h": (("monitoring", ""), ("schemes", "")),
    "include/trace/events/damon.h": (("monitoring", "trace"),),
    "mm/damon/sysfs.c": (("monitoring", "tree"), ("monitoring", "commit"), ("monitoring", "command")),
    "mm/damon/sysfs-common.c": (("monitoring", "tree"), ("monitoring", "commit")),
    "mm/damon/sysfs-schemes.c": (("schemes", "tried"), ("schemes", "stats"), ("schemes", "")),
    "mm/damon/modules-common.c": (("modules", ""),),
    "mm/damon/reclaim.c": (("modules", "reclaim"), ("modules", "")),
    "mm/damon/lru_sort.c": (("modules", "lru_sort"), ("modules", "")),
    "mm/damon/stat.c": (("modules", "damon_stat"), ("modules", "")),
}


def first_by_changes(areas: Sequence[str], changed: Sequence[str]) -> list[str]:
    """Return the selection with those files first that test what was changed; before them those named so.

    ``areas``: directories, files or ids of suites; none: all. ``changed``: paths in the kernel tree.
    Without a change in DAMON, the selection is returned as it is. Each file is in the result once.
    """
    touched = [suite for path in changed for suite in _TOUCHED.get(_source_of(path), ())]
    if not touched or any("::" in area for area in areas):
        return list(areas)
    files = _files(areas)
    first: dict[Path, None] = {}
    for area, word in touched:
        near = [file for file in files if file.parent.name == area]
        named = [file for file in near if word in file.name]  # all, for an area without a word
        first |= dict.fromkeys([*named, *(file for file in near if _mentions(file, word))])
    return [str(file) for file in dict.fromkeys([*first, *files])]


def _source_of(path: str) -> str:
    """Return the source file that has the code of a header beside it."""
    return str(PurePosixPath(path).with_suffix(".c")) if path.startswith("mm/damon/") else path


def _files(areas: Sequence[str]) -> list[Path]:
    """Return the test files of the selection, in the order of their names within each area."""
    files: dict[Path, None] = {}
    for area in areas or [str(bundle.suites_dir())]:
        path = Path(area)
        for file in [path] if path.is_file() else sorted(path.rglob("test_*.py")):
            files[file] = None
    return list(files)


def _mentions(file: Path, word: str) -> bool:
    return word in file.read_text(encoding="utf-8", errors="replace")

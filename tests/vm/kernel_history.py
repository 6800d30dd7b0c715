# SPDX-License-Identifier: GPL-2.0
"""A git history on Debian's kernel source: ten commits, of which one does not build and one has a bug."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from damon_tests import bundle
from damon_tests.kernel.images.debian_source import linux_source

BAD = 6
"""The commit from which on every check finds an access."""

UNBUILDABLE = 3

_FILES = (
    "core",
    "vaddr",
    "paddr",
    "sysfs",
    "sysfs-schemes",
    "core",
    "reclaim",
    "lru_sort",
    "stat",
    "ops-common",
)
_RIGHT = "\tif (accessed)\n\t\tr->nr_accesses++;\n"
_WRONG = "\tr->nr_accesses++;\n"
_ERROR = "this does not compile;\n"


def make_history() -> Path:
    """Return a repository with the tags c0 to c10 and nothing checked out; made once, in the cache.

    It stays there, so that the kernels of a later run of the tests are built incrementally.
    """
    tree = bundle.cache_dir() / "tests" / "linux"
    if (tree / "made").exists():
        return tree
    source = linux_source("debian:7.3")
    tree.mkdir(parents=True, exist_ok=True)
    history = _History(tree)
    history.import_tree(source)
    for number, name in enumerate(_FILES, 1):
        path = f"mm/damon/{name}.c"
        text = f"{history.show(path)}/* change {number} */\n"
        if number == BAD:
            assert text.count(_RIGHT) == 1
            text = text.replace(_RIGHT, _WRONG)
        changes = {path: text + _ERROR if number == UNBUILDABLE else text}
        if number == UNBUILDABLE + 1:
            broken = f"mm/damon/{_FILES[UNBUILDABLE - 1]}.c"
            changes[broken] = history.show(broken).removesuffix(_ERROR)
        history.commit(f"mm/damon/{name}: change {number}", f"c{number}", changes)
    (tree / "made").touch()
    return tree


class _History:
    """Makes commits without a work tree."""

    def __init__(self, tree: Path) -> None:
        self._tree = tree
        self._git("init", "-q")
        self._git("config", "core.compression", "0")
        for name, value in (("user.name", "A Tester"), ("user.email", "tester@example.org")):
            self._git("config", name, value)

    def _git(self, *words: str, text: str | None = None, work_tree: Path | None = None) -> str:
        environment = {**os.environ, "GIT_INDEX_FILE": str(self._tree / ".git" / "history.index")}
        place = ["--git-dir", str(self._tree / ".git")]
        place += ["--work-tree", str(work_tree)] if work_tree else []
        done = subprocess.run(
            ["git", *place, *words], env=environment, input=text, capture_output=True, text=True, check=True
        )
        return done.stdout

    def import_tree(self, source: Path) -> None:
        self._git("add", "-A", "-f", work_tree=source)
        self._record("Linux of Debian's linux-source", "c0")

    def show(self, path: str) -> str:
        return self._git("show", f"HEAD:{path}")

    def commit(self, title: str, tag: str, changes: dict[str, str]) -> None:
        for path, text in changes.items():
            blob = self._git("hash-object", "-w", "--stdin", text=text).strip()
            self._git("update-index", "--cacheinfo", f"100644,{blob},{path}")
        self._record(title, tag, "-p", "HEAD")

    def _record(self, title: str, tag: str, *parent: str) -> None:
        root = self._git("write-tree").strip()
        sha = self._git("commit-tree", root, *parent, "-m", title).strip()
        self._git("update-ref", "HEAD", sha)
        self._git("tag", tag)

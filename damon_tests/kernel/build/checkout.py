# SPDX-License-Identifier: GPL-2.0
"""Check out commits of a source tree in a directory of our own: the tree itself is never touched.

The directory is a git repository that borrows the tree's objects (gitrepository-layout(5),
``objects/info/alternates``). It stays in the cache: a later checkout changes only the files that differ, so
that make compiles only what depends on them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from damon_tests import bundle
from damon_tests.ports import HarnessError, UsageError


@dataclass(frozen=True)
class Commit:
    sha: str
    title: str

    @property
    def short(self) -> str:
        return self.sha[:12]

    def __str__(self) -> str:
        return f"{self.short} {self.title}"


def git(directory: Path, *words: str) -> str:
    """Run git in a directory and return what it prints. Raises UsageError with git's words."""
    environment = {**os.environ, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):  # set while a hook of git runs
        environment.pop(name, None)
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), *words],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise UsageError(f"git cannot be run: {error.strerror}") from None
    if done.returncode:
        reason = next(iter((done.stderr or done.stdout).strip().splitlines()), "no reason given")
        raise UsageError(f"git {words[0]} in {directory}: {reason}")
    return done.stdout


def commit(tree: Path, revision: str) -> Commit:
    """Return the commit that a revision names. Raises UsageError."""
    sha, _, title = git(tree, "log", "-1", "--format=%H %s", revision, "--").strip().partition(" ")
    return Commit(sha, title)


def commits(tree: Path, revisions: str) -> list[Commit]:
    """Return the commits of ``A..B``, oldest first, or the one that a revision names. Raises UsageError."""
    if ".." not in revisions:
        return [commit(tree, revisions)]
    lines = git(tree, "log", "--reverse", "--no-merges", "--format=%H %s", revisions, "--").splitlines()
    if not lines:
        raise UsageError(f"--rev {revisions}: there are no commits in that range")
    return [Commit(*line.split(" ", 1)) if " " in line else Commit(line, "") for line in lines]


def is_git(tree: Path) -> bool:
    """Return whether the tree is the top of a git checkout."""
    return (tree / ".git").exists()


def require_checkout(tree: Path) -> None:
    """Raise UsageError unless the tree is the top of a git checkout."""
    if not is_git(tree):
        raise UsageError(f"{tree}: not the top of a git checkout, so it has no revisions")


def changed_files(tree: Path, base: str, to: str | None = None) -> list[str]:
    """Return the files that differ between two revisions, or a revision and the tree as it is on disk."""
    revisions = [base] if to is None else [base, to]
    return git(tree, "diff", "--name-only", *revisions, "--").splitlines()


class Checkout:
    """A directory of our own with commits of a tree; ``path`` is where the files are."""

    def __init__(self, tree: Path, path: Path) -> None:
        self.tree = tree
        self.path = path

    def switch(self, revision: str) -> None:
        """Check out a commit; files that do not differ keep their times. Raises UsageError."""
        git(self.path, "checkout", "--quiet", "--force", "--detach", revision)


@contextlib.contextmanager
def checkout(tree: Path, cache: Path | None = None) -> Iterator[Checkout]:
    """Open the checkout of a tree, locked against others. Raises UsageError if the tree is not git's."""
    require_checkout(tree)
    key = hashlib.sha256(str(tree.resolve()).encode()).hexdigest()[:16]
    path = (cache or bundle.cache_dir()) / "checkouts" / f"{tree.resolve().name}-{key}"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{path}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise HarnessError(
            f"another command has revisions of {tree} checked out: wait for it to end"
        ) from None
    try:
        _borrow(tree, path)
        yield Checkout(tree, path)
    finally:
        lock.release()


def _borrow(tree: Path, path: Path) -> None:
    """Make ``path`` a repository that has the tree's objects."""
    if not (path / ".git").is_dir():
        path.mkdir(exist_ok=True)
        git(path, "init", "--quiet")
    objects = (tree / git(tree, "rev-parse", "--git-path", "objects").strip()).resolve()
    (path / ".git/objects/info").mkdir(exist_ok=True)
    (path / ".git/objects/info/alternates").write_text(f"{objects}\n")
    shallow = tree / git(tree, "rev-parse", "--git-path", "shallow").strip()
    if shallow.is_file():  # where the tree's history ends
        (path / ".git/shallow").write_bytes(shallow.read_bytes())

# SPDX-License-Identifier: GPL-2.0
"""``damon-tests build``: build a kernel for the guests from a source tree, or from one of its commits."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from damon_tests.kernel.build import checkout as git
from damon_tests.kernel.build.make import BuildRequest, Built, build

Say = Callable[[str], None]


def build_tree(request: BuildRequest, revision: str | None, say: Say = print) -> int:
    """Build and print where the kernel is, and how to test it. Raises as ``build`` does."""
    with source_of(request, revision) as source:
        built = build(source, say)
    for line in summary(built):
        say(line)
    return 0


@contextlib.contextmanager
def source_of(request: BuildRequest, revision: str | None) -> Iterator[BuildRequest]:
    """Yield the request for the tree itself, or for a checkout of one of its commits."""
    if revision is None:
        yield request
        return
    with git.checkout(request.tree, request.cache) as checked_out:
        checked_out.switch(git.commit(request.tree, revision).sha)
        yield replace(request, tree=checked_out.path)


def summary(built: Built) -> Sequence[str]:
    """Return the lines that the user sees at the end."""
    lines = [f"warning  {warning}" for warning in built.warnings]
    lines += [f"Kernel   {built.image}", f"Symbols  {built.vmlinux}"]
    lines += [f"Built    {built.compiled} files in {built.seconds:.0f} s, {built.compiler}"]
    if built.not_obtained:
        options = ", ".join(option.option for option in built.not_obtained)
        lines.append(f"Missing  {options}")
    return [*lines, f"Test     damon-tests gate --kernel {_shell_path(built.image)}"]


def _shell_path(path: Path) -> str:
    home = str(Path.home())
    return f"~{str(path)[len(home) :]}" if str(path).startswith(f"{home}/") else str(path)

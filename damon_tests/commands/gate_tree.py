# SPDX-License-Identifier: GPL-2.0
"""``damon-tests gate --tree``: build a source tree, or each commit of a series, and judge what was built."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from damon_tests import __version__
from damon_tests.commands import gate
from damon_tests.commands.commit_tests import first_by_changes
from damon_tests.commands.gate import GateRequest, KernelRun
from damon_tests.kernel.build import checkout as git
from damon_tests.kernel.build.checkout import Commit
from damon_tests.kernel.build.make import BuildFailed, BuildRequest, Built, build, source_tree
from damon_tests.ports import DamonTestsError, output_file

Say = Callable[[str], None]

COMMITS_JSON, TESTED_BY = "commits.json", "tested-by.txt"


@dataclass(frozen=True)
class TreeRequest:
    """``revisions``: a revision, ``A..B`` for each commit of it, None for the tree as it is on disk.

    ``gate``: its ``kernels`` are what is built. ``base``: changes since this revision choose what runs first;
    None: each commit's own, or of the tree what is not committed.
    """

    build: BuildRequest
    gate: GateRequest
    revisions: str | None = None
    base: str | None = None


@dataclass(frozen=True)
class Judged:
    """What is known of one commit (None: the tree as it is on disk). ``failure``: why it was not tested."""

    commit: Commit | None
    built: Built | None = None
    failure: str = ""
    exit_code: int = 0
    kunit: KernelRun | None = None
    suites: KernelRun | None = None
    selftests: KernelRun | None = None

    @property
    def name(self) -> str:
        return self.commit.short if self.commit else "tree"

    @property
    def runs(self) -> list[KernelRun]:
        return [run for run in (self.kunit, self.suites, self.selftests) if run is not None]


def gate_tree(request: TreeRequest, say: Say = print) -> int:
    """Build and judge; print a line for each commit, what is new, and a summary for ``Tested-by:``.

    Returns the worst exit code: 1 also for a commit in which DAMON does not build, 6 for one that does not
    build otherwise. Raises UsageError for a request that cannot work, before anything is built.
    """
    earlier = gate.earlier_run(request.gate)
    _check(request)
    request.gate.output.mkdir(parents=True, exist_ok=True)
    judged = []
    for source, commit in _sources(request):
        judged.append(_judge(request, source, commit, say))
        if commit is not None:
            say(line_of(judged[-1]))
    runs = [run for commit in judged for run in commit.runs]
    text = tested_by(request, judged)
    output_file.write_text(request.gate.output / TESTED_BY, text)
    output_file.write_text(request.gate.output / COMMITS_JSON, json.dumps(_as_json(judged), indent=1) + "\n")
    if runs:
        gate.conclude(request.gate, runs, earlier, say)
    say("")
    say(text.rstrip())
    return gate.worst([commit.exit_code for commit in judged])


def _check(request: TreeRequest) -> None:
    """Raise UsageError for a tree or revisions that are not there."""
    tree = request.build.tree
    if request.revisions is None:
        source_tree(tree)
    else:
        git.require_checkout(tree)
        git.commits(tree, request.revisions)
    if request.base is not None:
        git.require_checkout(tree)
        git.commit(tree, request.base)


def _sources(request: TreeRequest) -> Iterator[tuple[Path, Commit | None]]:
    """Yield the directory to build and its commit; commits share a directory, one after the other."""
    tree = request.build.tree
    if request.revisions is None:
        yield tree, None
        return
    commits = git.commits(tree, request.revisions)
    with git.checkout(tree, request.build.cache) as checked_out:
        for commit in commits:
            checked_out.switch(commit.sha)
            yield checked_out.path, commit


def _judge(request: TreeRequest, source: Path, commit: Commit | None, say: Say) -> Judged:
    name = commit.short if commit else "tree"
    try:
        built = build(replace(request.build, tree=source), say)
    except BuildFailed as error:
        return Judged(commit, None, str(error), error.exit_code)
    image = _keep(built, request.gate.output / name)
    guest = request.gate.guest.guest()
    kunit = gate.run_kunit_of(str(image), request.gate.output / f"{name}-kunit", say, guest)
    areas = first_by_changes(request.gate.areas, _changes(request, source, commit))
    say(f"{name}: testing")
    suites = gate.run_suites(
        str(image),
        request.gate.output / f"{name}-suites",
        areas,
        request.gate.options,
        request.gate.output / f"{name}-suites.log",
    )
    selftests = _selftests(request, source, image, name, say)
    codes = [run.exit_code for run in (kunit, suites, selftests) if run is not None]
    failure = "" if suites.run is not None else f"its run left no results; see {suites.log}"
    return Judged(
        commit,
        built,
        failure,
        gate.worst(codes),
        replace(kunit, kernel=f"{name} KUnit") if kunit else None,
        replace(suites, kernel=name),
        replace(selftests, kernel=f"{name} selftests") if selftests else None,
    )


def _selftests(request: TreeRequest, source: Path, image: Path, name: str, say: Say) -> KernelRun | None:
    """Run the selftests of the tree that was built, if asked for: of each commit its own."""
    if request.gate.selftests is None:
        return None
    say(f"{name}: its selftests")
    return gate.run_selftests_of(str(image), request.gate.output / f"{name}-selftests", str(source))


def _keep(built: Built, directory: Path) -> Path:
    """Copy the kernel and its symbols: the next commit is built over them."""
    directory.mkdir(parents=True, exist_ok=True)
    for path in (built.image, built.vmlinux, built.directory / ".config"):
        if path.is_file():
            shutil.copy2(path, directory / path.name)
    return directory / built.image.name


def _changes(request: TreeRequest, source: Path, commit: Commit | None) -> Sequence[str]:
    """Return the changed files; none of a tree without git, or of a commit without a parent."""
    tree = request.build.tree
    if not git.is_git(tree):
        return ()
    try:
        if commit is None:
            return git.changed_files(tree, request.base or "HEAD")
        return git.changed_files(tree, request.base or f"{commit.sha}^", commit.sha)
    except DamonTestsError:
        if request.base is not None:
            raise
        return ()


def line_of(judged: Judged) -> str:
    """Return the answer for one commit in one line."""
    words = [_word(judged), str(judged.commit)]
    if judged.built is None:
        return "  ".join([*words, _first_error(judged.failure)])
    words.append(f"built in {judged.built.seconds:.0f} s")
    parts = (("KUnit", judged.kunit), ("suites", judged.suites), ("selftests", judged.selftests))
    words += [f"{kind} {_counts(run)}" for kind, run in parts if run]
    return "  ".join(words)


def _first_error(failure: str) -> str:
    """Return a failure in one line: what it is, and the first of the errors below that."""
    what, *errors = failure.splitlines() or ["it was not tested"]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{what} {errors[0].strip()}{more}" if errors else what


def _counts(run: KernelRun) -> str:
    counts = run.run["counts"] if run.run is not None else {}
    return " ".join(f"{verdict} {n}" for verdict, n in counts.items() if n) or "no results"


def tested_by(request: TreeRequest, judged: Sequence[Judged]) -> str:
    """Return what was run on what, for a reply to a patch series; with ``Tested-by:`` only if all is good."""
    built = next((j.built for j in judged if j.built is not None), None)
    lines = [
        f"Each commit: built for x86-64 ({', '.join(request.build.fragments)};"
        f" {built.compiler if built else 'no compiler got through'}), DAMON's KUnit tests,",
        f"and the suites of damon-tests {__version__} in a guest.",
        "",
        *(line_of(j) if j.commit else f"{_word(j)}  {request.build.tree}: {_all_counts(j)}" for j in judged),
        "",
    ]
    if all(j.exit_code == 0 for j in judged) and judged:
        lines.append(f"Tested-by: {_identity(request.build.tree)}")
    else:
        lines.append("No Tested-by: not every commit is good.")
    return "\n".join(lines) + "\n"


def _word(judged: Judged) -> str:
    return "good" if judged.exit_code == 0 else "FAIL" if judged.exit_code == 1 else "?"


def _all_counts(judged: Judged) -> str:
    return ", ".join(_counts(run) for run in judged.runs) or " ".join(judged.failure.split())


def _identity(tree: Path) -> str:
    """Return who git says the user is, else a place to fill in."""
    try:
        name, email = (git.git(tree, "config", f"user.{what}").strip() for what in ("name", "email"))
    except DamonTestsError:
        return "NAME <EMAIL>"
    return f"{name} <{email}>"


def _as_json(judged: Sequence[Judged]) -> list[dict[str, object]]:
    return [
        {
            "commit": j.commit.sha if j.commit else None,
            "title": j.commit.title if j.commit else None,
            "exit_code": j.exit_code,
            "failure": j.failure,
            "build_s": j.built.seconds if j.built else None,
            "compiled": j.built.compiled if j.built else None,
            "not_obtained": [str(option) for option in j.built.not_obtained] if j.built else [],
            "warnings": [str(warning) for warning in j.built.warnings] if j.built else [],
            "runs": [run.directory.name for run in j.runs],
        }
        for j in judged
    ]

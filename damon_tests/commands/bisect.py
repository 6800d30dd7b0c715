# SPDX-License-Identifier: GPL-2.0
"""``damon-tests bisect``: find the commit that broke DAMON, with git bisect, our builds and our tests.

Verdicts of commits are kept in the output directory, so that what was interrupted goes on with the same
``--output``. git bisects in the checkout of ``kernel.build.checkout``; the tree stays as it is.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from damon_tests.kernel.build import checkout as git
from damon_tests.kernel.build.checkout import Checkout, Commit
from damon_tests.ports import UsageError, output_file

Say = Callable[[str], None]
State = Literal["good", "bad", "skip"]

MISS = 0.02
"""The chance, at most, that a commit with the bug passes so often that it is taken for a good one."""

_RUNS_ON_BAD = 3
_STATE, _LOG = "bisect.json", "bisect.log"
_FIRST_BAD = re.compile(r"^([0-9a-f]{40,64}) is the first bad commit", re.MULTILINE)
_POSSIBLE = re.compile(r"^# possible first bad commit: \[([0-9a-f]+)\]", re.MULTILINE)


@dataclass(frozen=True)
class Trial:
    """The outcome of testing one commit once: ``state``, and why in words."""

    state: State
    reason: str


Try = Callable[[Path, Sequence[str], int], Trial]
"""Build the tree at a path, run the tests of these ids with a seed; skip: it does not build or boot."""

Failing = Callable[[Path, int], Sequence[str]]
"""Build the tree at a path, and return the ids of the tests that fail."""


@dataclass(frozen=True)
class BisectRequest:
    """``good``, ``bad``: revisions. ``tests``: ids; none: those that fail on ``bad`` and not on ``good``."""

    tree: Path
    good: str
    bad: str
    output: Path
    tests: Sequence[str] = ()
    seed: int = 1
    cache: Path | None = None


@dataclass(frozen=True)
class Answer:
    """``culprits``: the first bad commit, or those that it may be where others could not be tested."""

    culprits: tuple[Commit, ...]
    tested: int

    @property
    def exit_code(self) -> int:
        return 0 if len(self.culprits) == 1 else 7


def passes_needed(failed: int, runs: int) -> int:
    """Return how often a commit has to pass to be good, for a bug that failed so many of its runs.

    A failure needs no repetition: a test fails a correct DAMON at most as often as its α. A pass does: with
    failure rate p, n passes miss the bug with (1 - p)^n, which must not be above MISS. p is estimated with
    Jeffreys' prior, (failed + ½) / (runs + 1): 3 of 3 need 2 passes, 1 of 3 needs 9.
    """
    rate = (failed + 0.5) / (runs + 1)
    return max(1, math.ceil(math.log(MISS) / math.log(1 - rate)))


def bisect(request: BisectRequest, attempt: Try, failing: Failing, say: Say = print) -> Answer:
    """Find the first bad commit and print it.

    Raises UsageError when the revisions are no range, or good and bad behave alike.
    """
    git.require_checkout(request.tree)
    good, bad = git.commit(request.tree, request.good), git.commit(request.tree, request.bad)
    if good.sha == bad.sha:
        raise UsageError(f"--good and --bad are the same commit, {good}")
    request.output.mkdir(parents=True, exist_ok=True)
    with git.checkout(request.tree, request.cache) as checked_out:
        search = _Search(request, attempt, checked_out, _Kept.load(request, good, bad), say)
        search.choose_tests(good, bad, failing)
        search.check_ends(good, bad)
        culprits = [git.commit(request.tree, sha) for sha in search.run(good, bad)]
        search.kept.culprits = [str(commit) for commit in culprits]
        search.kept.save()
    if len(culprits) == 1:
        search.say(f"first bad commit: {culprits[0]}")
    else:
        search.say("the first bad commit is one of these; some of them do not build or boot:")
        for culprit in culprits:
            search.say(f"  {culprit}")
    say(f"Log      {request.output / _LOG}")
    return Answer(tuple(culprits), len(search.kept.verdicts))


@dataclass
class _Kept:
    """What is known so far, on disk after every change."""

    path: Path
    good: str
    bad: str
    tests: list[str]
    passes: int = 0
    verdicts: dict[str, dict[str, str]] = field(default_factory=dict)
    culprits: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, request: BisectRequest, good: Commit, bad: Commit) -> _Kept:
        path = request.output / _STATE
        fresh = cls(path, good.sha, bad.sha, list(request.tests))
        if not path.exists():
            return fresh
        try:
            kept = cls(**{**json.loads(path.read_text()), "path": path})
        except (ValueError, TypeError) as error:
            raise UsageError(f"{path}: damaged ({error}); remove it to begin again") from None
        if (kept.good, kept.bad) != (good.sha, bad.sha) or (request.tests and kept.tests != fresh.tests):
            raise UsageError(f"{path}: of another bisection; give another --output")
        return kept

    def save(self) -> None:
        output_file.write_text(self.path, json.dumps({**asdict(self), "path": ""}, indent=1) + "\n")


class _Search:
    def __init__(
        self, request: BisectRequest, attempt: Try, checked_out: Checkout, kept: _Kept, say: Say
    ) -> None:
        self.request = request
        self.attempt = attempt
        self.checkout = checked_out
        self.kept = kept
        self._say = say

    def say(self, line: str) -> None:
        with (self.request.output / _LOG).open("a") as file:
            file.write(f"{line}\n")
        self._say(line)

    def choose_tests(self, good: Commit, bad: Commit, failing: Failing) -> None:
        """Choose the tests: without ``tests``, take what fails on the bad commit and not on the good one."""
        if self.kept.tests:
            return
        failed = {}
        for end in (bad, good):
            self.checkout.switch(end.sha)
            failed[end.sha] = list(failing(self.checkout.path, self.request.seed))
        self.kept.tests = [test for test in failed[bad.sha] if test not in failed[good.sha]]
        if not self.kept.tests:
            raise UsageError(f"no test fails on {bad} and not on {good}: nothing to search for")
        self.say(f"bisecting by {', '.join(self.kept.tests)}")
        self.kept.save()

    def check_ends(self, good: Commit, bad: Commit) -> None:
        """Require that the bad commit fails and the good one passes.

        How often the bad one fails says how often others have to pass.
        """
        if not self.kept.passes:
            trials = [self._try(bad, self.request.seed + i) for i in range(_RUNS_ON_BAD)]
            ran = [trial for trial in trials if trial.state != "skip"]
            failed = [trial for trial in ran if trial.state == "bad"]
            if not failed:
                raise UsageError(f"--bad {bad} is not bad: {trials[0].reason}")
            self.kept.passes = passes_needed(len(failed), len(ran))
            self._keep(bad, "bad", f"{len(failed)} of {len(ran)} runs fail: {failed[0].reason}")
            self.say(f"a commit is good after {self.kept.passes} passes")
        if good.sha not in self.kept.verdicts:
            state, reason = self._judge(good)
            if state != "good":
                raise UsageError(f"--good {good} is not good: {reason}")
            self._keep(good, state, reason)

    def run(self, good: Commit, bad: Commit) -> list[str]:
        """Let git choose commits until it knows; return the first bad one, or those that it may be."""
        path = self.checkout.path
        git.git(path, "bisect", "reset")
        try:
            culprits = _culprits(git.git(path, "bisect", "start", "--no-checkout", bad.sha, good.sha))
            while not culprits:
                commit = git.commit(path, "BISECT_HEAD")
                culprits = self._report(self._verdict(commit), commit)
            return culprits
        finally:
            git.git(path, "bisect", "reset")

    def _report(self, state: State, commit: Commit) -> list[str]:
        """Report a verdict to git; return the culprits when git is finished."""
        try:
            return _culprits(git.git(self.checkout.path, "bisect", state, commit.sha))
        except UsageError:
            # git ends so when only commits are left that were skipped.
            possible = _POSSIBLE.findall(git.git(self.checkout.path, "bisect", "log"))
            if not possible:
                raise
            return possible

    def _verdict(self, commit: Commit) -> State:
        kept = self.kept.verdicts.get(commit.sha)
        if kept is None:
            state, reason = self._judge(commit)
            self._keep(commit, state, reason)
            return state
        return kept["state"]  # type: ignore[return-value]  # checked when it was written

    def _judge(self, commit: Commit) -> tuple[State, str]:
        """Test a commit until it fails, cannot be tested, or has passed often enough."""
        for i in range(self.kept.passes):
            trial = self._try(commit, self.request.seed + i)
            if trial.state != "good":
                return trial.state, trial.reason
        return "good", f"{self.kept.passes} passes"

    def _try(self, commit: Commit, seed: int) -> Trial:
        self.checkout.switch(commit.sha)
        return self.attempt(self.checkout.path, self.kept.tests, seed)

    def _keep(self, commit: Commit, state: State, reason: str) -> None:
        self.kept.verdicts[commit.sha] = {"state": state, "reason": reason}
        self.kept.save()
        self.say(f"{state:<4}  {commit}: {reason}")


def culprits_of(directory: Path) -> list[str]:
    """Return the first bad commit ("SHA title") that a bisection found, or those that it may be.

    Raises UsageError for a directory without an answer.
    """
    path = directory / _STATE
    try:
        culprits = json.loads(path.read_text(encoding="utf-8"))["culprits"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: no bisection ({error})") from None
    if not culprits:
        raise UsageError(
            f"{directory}: this bisection has no answer yet; run it again with the same --output"
        )
    return [str(commit) for commit in culprits]


def _culprits(text: str) -> list[str]:
    """Return the first bad commit if git bisect printed it."""
    match = _FIRST_BAD.search(text)
    return [match[1]] if match else []

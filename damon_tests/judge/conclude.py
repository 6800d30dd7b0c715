# SPDX-License-Identifier: GPL-2.0
"""From everything a test left behind (checks, an exception, kernel complaints) to its verdict."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from damon_tests.judge.verdict import Check, Verdict, decide
from damon_tests.kernel.splat import parse_splats
from damon_tests.ports import DamonTestsError, MachineLost, NotSupported, TreeError


@dataclass(frozen=True)
class KnownDefect:
    """A named, still open defect of DAMON that a test is expected to find on some levels.

    ``evidence`` says where it is shown (a commit, a report, a section of the specification).
    ``kernels_only``: the reference, which models what a level intends, does not have it. Stable releases mend
    defects, and bring some: ``fixed`` names those from which on their series does not have it any more,
    ``since`` those from which on it has it ("6.12.117").
    """

    name: str
    evidence: str
    levels: tuple[str, ...]
    kernels_only: bool = False
    fixed: tuple[str, ...] = ()
    since: tuple[str, ...] = ()

    def applies(self, level: str, release: str) -> bool:
        """Whether a kernel of that level and release (uname -r, empty if there is none) has it."""
        numbers = _numbers(release)
        fixed, since = (_of_series(releases, numbers) for releases in (self.fixed, self.since))
        return level in self.levels and (not fixed or numbers < fixed) and (not since or numbers >= since)


def _numbers(release: str) -> tuple[int, ...]:
    """(6, 12, 117) of "6.12.117+deb13-cloud-amd64"; empty where it begins with no number."""
    found = re.match(r"\d+(\.\d+)*", release)
    return tuple(int(number) for number in found[0].split(".")) if found else ()


def _of_series(releases: Sequence[str], numbers: tuple[int, ...]) -> tuple[int, ...]:
    """The one of the releases that is of the same series; empty if none is."""
    return next((n for n in map(_numbers, releases) if n[:2] == numbers[:2]), ())


@dataclass(frozen=True)
class Conclusion:
    verdict: Verdict
    reason: str


def conclude(
    checks: Sequence[Check],
    error: BaseException | None = None,
    splats: Sequence[str] = (),
    defects: Sequence[KnownDefect] = (),
    level: str = "",
    release: str = "",
) -> Conclusion:
    """The one place where a verdict is made.

    ``error`` is what the test body raised, if anything; ``splats`` what the kernel complained
    about meanwhile; ``defects`` the known defects declared beside the test; ``level`` and ``release`` whether
    the DAMON under test has them.
    """
    found = _without_defects(checks, error, splats)
    applying = [d for d in defects if d.applies(level, release)]
    if not applying:
        return found
    names = ", ".join(f"{d.name} ({d.evidence})" for d in applying)
    if found.verdict is Verdict.FAIL:
        return Conclusion(Verdict.XFAIL, f"known defect {names}: {found.reason}")
    if found.verdict is Verdict.PASS:
        return Conclusion(Verdict.XPASS, f"passes although {names} was expected: remove the marker")
    return found


def _without_defects(
    checks: Sequence[Check], error: BaseException | None, splats: Sequence[str]
) -> Conclusion:
    if splats:
        # What the kernel itself reports outranks every number.
        return Conclusion(Verdict.FAIL, f"the kernel complained: {splats[0]}")
    if error is not None:
        return _of_error(checks, error)
    return Conclusion(*decide(checks))


def _of_error(checks: Sequence[Check], error: BaseException) -> Conclusion:
    failed = [c for c in checks if c.holds is False]
    if failed:
        # A violation that was already shown stays shown, whatever broke afterwards.
        verdict, reason = decide(failed)
        return Conclusion(verdict, f"{reason}; afterwards: {_text(error)}")
    if isinstance(error, NotSupported):
        return Conclusion(Verdict.SKIP, str(error))
    if isinstance(error, MachineLost):
        crash = parse_splats(error.log)
        if crash:
            return Conclusion(Verdict.FAIL, f"the kernel crashed: {crash[0].kind}: {crash[0].title}")
    if isinstance(error, TreeError):
        # Suites only ask for what the tree says it can do: a refusal is DAMON's answer.
        return Conclusion(Verdict.FAIL, f"DAMON refused: {error}")
    if isinstance(error, AssertionError):
        return Conclusion(Verdict.FAIL, _text(error))
    return Conclusion(Verdict.ERROR, _text(error))


def _text(error: BaseException) -> str:
    text = str(error).strip() or "no message"
    return text if isinstance(error, DamonTestsError) else f"{type(error).__name__}: {text}"

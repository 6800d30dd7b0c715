# SPDX-License-Identifier: GPL-2.0
"""From everything a test left behind (checks, an exception, kernel complaints) to its verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from damon_tests.damon.known_defects import KnownDefect, Predicted
from damon_tests.judge.verdict import Check, Verdict, decide, describe
from damon_tests.kernel.splat import parse_splats
from damon_tests.ports import DamonHangs, DamonTestsError, MachineLost, NotSupported, TreeError


@dataclass(frozen=True)
class Conclusion:
    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class Left:
    """What a test left behind: its checks, what its body raised, what the kernel complained about."""

    checks: tuple[Check, ...] = ()
    error: BaseException | None = None
    splats: tuple[str, ...] = ()


def conclude(
    checks: Sequence[Check],
    error: BaseException | None = None,
    splats: Sequence[str] = (),
    defects: Sequence[KnownDefect] = (),
    level: str = "",
    release: str = "",
    test: str = "",
) -> Conclusion:
    """The one place where a verdict is made.

    ``error`` is what the test body raised, if anything; ``splats`` the titles of the kernel's complaints
    meanwhile; ``defects`` the known defects declared beside the test; ``level`` and ``release`` whether the
    DAMON under test has them; ``test`` the name of the test function.

    XFAIL needs that everything that went wrong is what those defects predict. All else keeps its verdict.
    """
    left = Left(tuple(checks), error, tuple(splats))
    applying = [d for d in defects if d.applies(level, release)]
    if not applying:
        return _judge(left)
    names = ", ".join(map(str, applying))
    new, expected = _beyond(left, [p for d in applying for p in d.predictions(test)])
    # Without its predicted failures a test may have nothing left to judge.
    rest = _judge(new) if new != Left() or not expected else Conclusion(Verdict.PASS, "")
    if rest.verdict is Verdict.FAIL:
        return Conclusion(Verdict.FAIL, f"{rest.reason}; the known defect {names} does not predict this")
    if rest.verdict is Verdict.PASS and not expected:
        return Conclusion(Verdict.XPASS, f"passes although {names} was expected: remove the marker")
    if expected and rest.verdict in (Verdict.PASS, Verdict.SKIP):
        return Conclusion(Verdict.XFAIL, f"known defect {names}: {expected[0]}")
    return rest


def _beyond(left: Left, predicted: Sequence[Predicted]) -> tuple[Left, list[str]]:
    """What is left when everything predicted is taken away, and what that was, in words."""
    checks = [c for c in left.checks if c.holds is not False or not _predicts_check(predicted, c)]
    splats = [s for s in left.splats if not _predicts_complaint(predicted, s)]
    error = None if left.error is not None and _predicts_error(predicted, left.error) else left.error
    expected = [describe(c) for c in left.checks if c not in checks]
    expected += [f"the kernel complained: {s}" for s in left.splats if s not in splats]
    if error is not left.error and left.error is not None:
        expected.append(_text(left.error))
    return Left(tuple(checks), error, tuple(splats)), expected


def _predicts_check(predicted: Sequence[Predicted], check: Check) -> bool:
    m = check.measurement
    return any(p.allows_check(m.name, m.value, check.detail) for p in predicted)


def _predicts_complaint(predicted: Sequence[Predicted], title: str) -> bool:
    """Whether a complaint is predicted; a panic never is."""
    return "Kernel panic" not in title and any(p.allows_complaint(title) for p in predicted)


def _predicts_error(predicted: Sequence[Predicted], error: BaseException) -> bool:
    """Whether a refusal, or a command that never ended, is predicted; nothing else that is raised ever is."""
    if isinstance(error, TreeError):
        return any(p.allows_refusal(error.errno_name, error.path) for p in predicted)
    return isinstance(error, DamonHangs) and any(p.allows_hang(str(error)) for p in predicted)


def _judge(left: Left) -> Conclusion:
    """The verdict without regard to defects."""
    if left.splats:
        # What the kernel itself reports outranks every number.
        return Conclusion(Verdict.FAIL, f"the kernel complained: {left.splats[0]}")
    if left.error is not None:
        return _of_error(left.checks, left.error)
    return Conclusion(*decide(left.checks))


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
    if isinstance(error, (AssertionError, DamonHangs)):
        what = f"DAMON hangs: {error}" if isinstance(error, DamonHangs) else _text(error)
        return Conclusion(Verdict.FAIL, what)
    return Conclusion(Verdict.ERROR, _text(error))


def _text(error: BaseException) -> str:
    text = str(error).strip() or "no message"
    return text if isinstance(error, DamonTestsError) else f"{type(error).__name__}: {text}"

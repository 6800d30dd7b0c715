# SPDX-License-Identifier: GPL-2.0
"""Judge one of the kernel's own DAMON selftests by its KTAP and by what DAMON did meanwhile.

An exit with 0 is not believed when the program printed that it skips, or when it passed without the DAMON
that its source turns on, or with a workload of which DAMON saw no access: such a pass is vacuous.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from damon_tests.judge.verdict import Verdict
from damon_tests.kernel.ktap import KtapLog, KtapTest

_SKIPS = re.compile(
    r"\bskip(s|ped|ping)?\b|\bnot (found|supported|available|built|enabled)\b|\b(run|running) as root\b"
    r"|\bno such file\b|\balready running\b|\banother kdamond\b",
    re.IGNORECASE,
)
_TURNS_ON = re.compile(r"\.start\(\)|echo \"?on\"? *>|echo Y *>|ensure_write_succ .*\bon\b")
_WORKLOAD = re.compile(r"\./access_memory")
_DRGN = re.compile(r"\bdrgn\b")
_RUNNER_SAYS = re.compile(r"(timeout set to|overriding timeout|selftests: |Totals: )")


@dataclass(frozen=True)
class SelftestEvidence:
    """What was observed while the kernel's runner ran one selftest.

    Attributes:
        source: the program's source; empty for a compiled one.
        log: the runner's KTAP.
        ended: whether the runner ended by itself.
        complaints: titles of the kernel's BUG, WARNING and similar reports.
        wakeups: how often kdamonds woke up; None where that was not traced.
        accessed_regions: how often an aggregation reported a region with accesses; None as above.
        left_behind: what of DAMON's state differs from before, in words.
        lost: why the machine is gone; empty if it is there.
        absent: the interface that the program tests, if this kernel does not have it.
    """

    source: str
    log: KtapLog
    ended: bool = True
    complaints: Sequence[str] = ()
    wakeups: int | None = None
    accessed_regions: int | None = None
    left_behind: Sequence[str] = ()
    lost: str = ""
    absent: str = ""


@dataclass(frozen=True)
class SelftestVerdict:
    """``name``: of the program, or "program.subtest". ``vacuous``: a pass that shows nothing."""

    name: str
    verdict: Verdict
    reason: str
    vacuous: bool = False


def needs_drgn(source: str) -> bool:
    """Return whether a program reads kernel memory with drgn: without it, it fails instead of skipping."""
    return _DRGN.search(source) is not None


def of_debugfs(program: str) -> bool:
    """Return whether a program tests DAMON's debugfs files, in trees before 6.14. Not all look for them."""
    return program.startswith("debugfs_")


def judge(program: str, evidence: SelftestEvidence) -> list[SelftestVerdict]:
    """Return the verdict of a selftest, or those of its subtests if it reports any. Never empty."""
    own = [test for test in evidence.log.tests if test.name.split(": ")[-1] == program]
    if not own:
        verdict = Verdict.FAIL if evidence.complaints else Verdict.ERROR
        return [SelftestVerdict(program, verdict, _reason(_no_result(evidence), evidence))]
    leaves = [(path.replace(own[0].name, program, 1), test) for path, test in own[0].leaves()]
    return [_judge_leaf(name, test, evidence) for name, test in leaves]


def _no_result(evidence: SelftestEvidence) -> str:
    if evidence.lost:
        return f"the machine was lost: {evidence.lost}"
    if not evidence.ended:
        return "it did not end, and its runner did not end it"
    return f"it reported no result: {'; '.join(evidence.log.problems) or 'its log is empty'}"


def _judge_leaf(name: str, test: KtapTest, evidence: SelftestEvidence) -> SelftestVerdict:
    printed = last_line(test.diagnostics)
    if test.outcome in ("fail", "missing"):
        said = "; ".join(part for part in (printed, test.reason) if part) or "no reason printed"
        return SelftestVerdict(name, Verdict.FAIL, _reason(f"it failed: {said}", evidence))
    if test.outcome == "timeout":
        said = f"it did not end within {test.reason or 'its timeout'}"
        return SelftestVerdict(name, Verdict.FAIL, _reason(said, evidence))
    if evidence.complaints:
        return SelftestVerdict(name, Verdict.FAIL, _reason("it reported no failure", evidence))
    if test.outcome == "skip":
        said = f"it skipped itself: {test.reason or printed or 'no reason printed'}"
        return SelftestVerdict(name, Verdict.SKIP, _reason(said, evidence))
    if test.outcome == "xfail":
        said = f"it expects to fail: {test.reason or printed or 'no reason printed'}"
        return SelftestVerdict(name, Verdict.XFAIL, _reason(said, evidence))
    return _judge_pass(name, printed, evidence)


def _judge_pass(name: str, printed: str, evidence: SelftestEvidence) -> SelftestVerdict:
    if _SKIPS.search(printed):
        said = f"it exited with 0, as if it had passed, but skipped: {printed}"
        return SelftestVerdict(name, Verdict.SKIP, _reason(said, evidence), vacuous=True)
    if evidence.absent:
        said = f"it passed, but what it tests is not there: {evidence.absent}"
        return SelftestVerdict(name, Verdict.SKIP, _reason(said, evidence), vacuous=True)
    if evidence.wakeups == 0 and _TURNS_ON.search(evidence.source):
        said = "it passed, but the kdamond that it turns on never ran: nothing was tested"
        return SelftestVerdict(name, Verdict.INCONCLUSIVE, _reason(said, evidence), vacuous=True)
    if evidence.accessed_regions == 0 and _WORKLOAD.search(evidence.source):
        said = "it passed, but DAMON reported no access of its workload: an idle DAMON passes as well"
        return SelftestVerdict(name, Verdict.INCONCLUSIVE, _reason(said, evidence), vacuous=True)
    return SelftestVerdict(name, Verdict.PASS, _reason("it passed", evidence))


def last_line(diagnostics: Sequence[str]) -> str:
    """Return the last line that the program itself printed; empty if it printed none."""
    own = [line.strip() for line in diagnostics if line.strip() and not _RUNNER_SAYS.match(line.strip())]
    return own[-1] if own else ""


def _reason(said: str, evidence: SelftestEvidence) -> str:
    parts = [said]
    if evidence.complaints:
        parts.append(f"the kernel complained: {evidence.complaints[0]}")
    if evidence.left_behind:
        parts.append(f"it left behind {', '.join(evidence.left_behind)}")
    return "; ".join(parts)

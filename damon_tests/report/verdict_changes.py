# SPDX-License-Identifier: GPL-2.0
"""What is new in a run against an earlier one: verdicts that changed, tests that came or went."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# From good to bad, as a gate sees them.
_SEVERITY = {"PASS": 0, "SKIP": 1, "XFAIL": 1, "INCONCLUSIVE": 2, "XPASS": 2, "ERROR": 3, "FAIL": 3}


@dataclass(frozen=True)
class VerdictChange:
    """``before``, ``after``: verdicts; empty for a test that the other run does not have."""

    test: str
    backend: str
    before: str
    after: str
    reason: str

    @property
    def worse(self) -> bool:
        """Return whether a gate should look: the verdict got worse, or a test that was judged is gone."""
        if not self.after:
            return self.before not in ("SKIP", "")
        return _SEVERITY[self.after] > _SEVERITY.get(self.before, 0)


def verdict_changes(run: Mapping[str, Any], baseline: Mapping[str, Any]) -> list[VerdictChange]:
    """Return every test whose verdict differs, the worse ones first."""
    changes: list[VerdictChange] = []
    for backend, old in compared_backends(run, baseline):
        changes += _of_backend(run, baseline, backend, old)
    return sorted(changes, key=lambda change: not change.worse)


def compared_backends(run: Mapping[str, Any], baseline: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (DAMON of the run, DAMON of the baseline) to compare.

    A baseline of one DAMON is compared with each of ``run``; one of several, with the same names.
    """
    names = {test["backend"] for test in baseline["tests"]}
    pairs = []
    for backend in dict.fromkeys(test["backend"] for test in run["tests"]):
        old = next(iter(names)) if len(names) == 1 else backend
        if old in names:
            pairs.append((backend, old))
    return pairs


def _of_backend(
    run: Mapping[str, Any], baseline: Mapping[str, Any], backend: str, old: str
) -> Iterator[VerdictChange]:
    before = {test["id"]: test for test in baseline["tests"] if test["backend"] == old}
    after = {test["id"]: test for test in run["tests"] if test["backend"] == backend}
    for name in dict.fromkeys([*after, *before]):
        was, now = before.get(name), after.get(name)
        verdicts = (was["verdict"] if was else "", now["verdict"] if now else "")
        if verdicts[0] != verdicts[1]:
            reason = (now or was or {}).get("reason", "")
            yield VerdictChange(name, backend, *verdicts, reason)

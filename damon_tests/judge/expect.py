# SPDX-License-Identifier: GPL-2.0
"""The ``expect`` fixture: collect the checks of one test."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

from damon_tests.judge.verdict import Check, Kind, Measurement
from damon_tests.ports.numbers import number


class Expect:
    """Collects checks. No method raises on a failed check, so a test reports all failures, not the first.

    ``on_check`` is called with each check at once, so that it is on disk before the next one.
    """

    def __init__(self, on_check: Callable[[Check], None] | None = None) -> None:
        self.checks: list[Check] = []
        self._on_check = on_check

    def add(self, checks: Check | Iterable[Check]) -> None:
        """Add ready-made checks (of ``judge.monitoring.closed_forms``, ``judge.schemes``)."""
        for given in [checks] if isinstance(checks, Check) else checks:
            check = _undecided_if_nothing_was_measured(given)
            self.checks.append(check)
            if self._on_check is not None:
                self._on_check(check)

    def at_least(
        self, measured: Measurement, limit: float, *, because: str, kind: Kind = "invariant", detail: str = ""
    ) -> None:
        """Expect ``measured.value >= limit``."""
        self.add(Check(kind, measured, f">= {number(limit)}", because, measured.value >= limit, detail))

    def at_most(
        self, measured: Measurement, limit: float, *, because: str, kind: Kind = "invariant", detail: str = ""
    ) -> None:
        """Expect ``measured.value <= limit``."""
        self.add(Check(kind, measured, f"<= {number(limit)}", because, measured.value <= limit, detail))

    def equal(
        self, measured: Measurement, value: float, *, because: str, kind: Kind = "invariant", detail: str = ""
    ) -> None:
        """Expect ``measured.value == value``, exactly."""
        self.add(Check(kind, measured, f"== {number(value)}", because, measured.value == value, detail))

    def between(
        self,
        measured: Measurement,
        low: float,
        high: float,
        *,
        because: str,
        kind: Kind = "invariant",
        detail: str = "",
    ) -> None:
        """Expect ``low <= measured.value <= high``."""
        holds = low <= measured.value <= high
        self.add(Check(kind, measured, f"{number(low)} to {number(high)}", because, holds, detail))

    def nothing(
        self,
        name: str,
        violations: Iterable[str],
        *,
        because: str,
        kind: Kind = "invariant",
        judged: int | None = None,
    ) -> None:
        """Expect ``violations`` to be empty; the detail shows its first five items.

        ``judged``: how many recorded things could have been one; 0 decides nothing. None: always some.
        """
        items = list(violations)
        detail = "; ".join(items[:5]) + (f"; and {len(items) - 5} more" if len(items) > 5 else "")
        m = Measurement(name, float(len(items)), "count")
        if judged is not None and judged <= 0 and not items:
            self.add(Check(kind, m, "== 0", because, None, "there was nothing to judge"))
            return
        self.equal(m, 0, because=because, kind=kind, detail=detail)


def _undecided_if_nothing_was_measured(check: Check) -> Check:
    """Make a failed check of a NaN undecided: it measured nothing."""
    if check.holds is False and check.kind != "oracle band" and math.isnan(check.measurement.value):
        return replace(check, holds=None, detail=check.detail or "nothing was measured")
    return check

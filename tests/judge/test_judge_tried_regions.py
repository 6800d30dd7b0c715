# SPDX-License-Identifier: GPL-2.0
"""Checks of tried_regions/ against the traced passes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from damon_tests.damon.params import ANY, DamonCtx, Damos
from damon_tests.damon.records import Snapshot, TriedRegions
from damon_tests.damon.trace import BeforeApplyEvent, TypedEvent
from damon_tests.judge.schemes import watched_passes
from damon_tests.judge.schemes.tried_regions import Answer, regions_of_one_pass

CTX = DamonCtx("fvaddr", schemes=(Damos("stat", ANY, apply_interval_us=50_000),))
Row = tuple[int, int, int, int]
FIRST: list[Row] = [(0, 4096, 1, 5), (4096, 8192, 0, 2)]
SECOND: list[Row] = [(0, 8192, 1, 6)]


def events(time_us: int, rows: Sequence[Row]) -> list[TypedEvent]:
    return [BeforeApplyEvent(time_us * 1000, 0, 0, 0, len(rows), *row) for row in rows]


def answer(begin_us: int, end_us: int, rows: Sequence[Row], total: int | None = None) -> Answer:
    start, end, nr, age = np.array(rows, np.uint64).reshape(-1, 4).T
    shown = Snapshot(0, 0, start, end, nr.astype(np.uint32), age.astype(np.uint32), len(rows))
    if total is None:
        total = sum(row[1] - row[0] for row in rows)
    return Answer(begin_us * 1000, end_us * 1000, (TriedRegions(0, total, shown),))


RECORDED = watched_passes.passes(
    [*events(100, FIRST), *events(200, SECOND), *events(300, FIRST), *events(400, FIRST)]
)


@pytest.mark.parametrize(
    ("asked", "holds"),
    [
        (answer(50, 150, FIRST), True),
        (answer(150, 250, SECOND), True),
        (answer(150, 250, FIRST), False),
        (answer(50, 250, FIRST), True),
        (answer(50, 150, FIRST[:1]), False),  # only a part of the pass
        (answer(50, 250, [*FIRST, *SECOND]), False),  # of two passes
        (answer(50, 150, [(0, 4096, 1, 0), FIRST[1]]), False),  # the age after the action
        (answer(350, 450, SECOND), True),  # after the last recorded pass: not judged
    ],
)
def test_regions_must_be_those_of_one_pass(asked: Answer, holds: bool) -> None:
    checks = regions_of_one_pass(RECORDED, [asked, answer(50, 150, FIRST)], CTX, "7.3")
    assert checks[-1].holds is holds
    assert all(check.holds for check in checks[:-1])


def test_wrong_total_bytes_fails() -> None:
    assert [
        c.holds for c in regions_of_one_pass(RECORDED, [answer(50, 150, FIRST, total=8191)], CTX, "7.3")
    ] == [
        False,
        True,
    ]


def test_without_answers_it_is_undecided() -> None:
    assert regions_of_one_pass(RECORDED, [], CTX, "7.3")[-1].holds is None


@pytest.mark.parametrize(
    ("level", "took_us", "holds"),
    [("6.12", 99_000, True), ("6.12", 80_000, False), ("6.16", 99_000, False)],
)
def test_old_kernels_give_up_after_two_apply_intervals(level: str, took_us: int, holds: bool) -> None:
    late = watched_passes.passes(
        [*events(100, FIRST), *events(200, FIRST), *events(150_000, FIRST), *events(160_000, FIRST)]
    )
    answers = [answer(50, 150, FIRST), answer(50, 50 + took_us, [])]
    assert regions_of_one_pass(late, answers, CTX, level)[-1].holds is holds

# SPDX-License-Identifier: GPL-2.0
"""A test whose guest is lost is run once more, and says so; one whose kernel crashed is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_plugin import finish, load, start

LOSES = """
LOST = []

def test(expect):
    if len(LOST) < {times}:
        LOST.append(1)
        expect.add(check({holds}))
        raise MachineLost("the connection was closed", {log!r})
    expect.add(check(True))
"""
CRASH = "[    9.1] BUG: kernel NULL pointer dereference, address: 0000000000000000"


@pytest.mark.parametrize(
    ("times", "holds", "log", "verdict", "lost"),
    [
        (1, True, "", "PASS", 1),
        (2, True, "", "ERROR", 1),
        (1, False, "", "FAIL", 0),  # a violation that was shown stays shown
        (1, True, CRASH, "FAIL", 0),
    ],
)
def test_lost_guest_is_tried_once_more(
    tmp_path: Path, times: int, holds: bool, log: str, verdict: str, lost: int
) -> None:
    body = "from damon_tests.ports import MachineLost\n" + LOSES.format(times=times, holds=holds, log=log)
    _, out = finish(start(tmp_path, body))
    (test,) = load(tmp_path)["tests"]
    assert test["verdict"] == verdict, out
    assert sum(m["value"] for m in test["measurements"] if m["name"] == "guests lost") == lost

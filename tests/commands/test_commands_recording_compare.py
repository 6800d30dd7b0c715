# SPDX-License-Identifier: GPL-2.0
"""``damon-tests recording compare``: two recordings side by side, and their difference."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic_recordings import MIB, MS, hot_cold, recording, snapshot

from damon_tests import cli
from damon_tests.damon import recording_file
from damon_tests.damon.recording_file import About, Saved
from damon_tests.report import two_recordings

FAR = 1 << 40


def saved(start: int, rate: int, name: str = "heap") -> Saved:
    """A recording of 4 MiB at ``start``, whose lower half has ``rate`` of 20 samples in two windows."""
    middle, end = start + 2 * MIB, start + 4 * MIB
    rows = [(start, middle, rate, 0), (middle, end, 0, 0)]
    report = recording([snapshot(t * MS, rows) for t in (100, 200)])
    return Saved(report, None, About("a test", "7.3", {name: (start, end)}))


def test_regions_of_one_name_are_compared_wherever_they_are() -> None:
    made = two_recordings.overlay(saved(0, 20), saved(FAR, 10), rows=4, columns=10)
    assert made.true is not None
    assert made.difference is not None
    assert made.seen[:, 0].tolist() == [1, 1, 0, 0]
    assert made.true[:, 0].tolist() == [0.5, 0.5, 0, 0]
    assert made.difference[:, 0].tolist() == [0.5, 0.5, 0, 0]


def test_without_a_common_name_addresses_are_compared_as_they_are() -> None:
    made = two_recordings.overlay(saved(0, 20), saved(0, 20, "other"), rows=4, columns=10)
    assert made.difference is not None
    assert not made.difference.any()


def test_shorter_recording_has_nothing_where_it_had_ended() -> None:
    short = saved(0, 20)
    short = replace(short, recording=replace(short.recording, snapshots=short.recording.snapshots[:1]))
    made = two_recordings.overlay(saved(0, 20), short, rows=4, columns=10)
    assert made.true is not None
    assert np.array_equal(made.true[0], [1, 0])


def test_command_prints_both_the_difference_and_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, damon, report = hot_cold(aggregations=20)
    about = About("a test", "7.3", {"heap": damon.ranges[0]}, (), damon.ctx)
    for name in ("a.npz", "b.npz"):
        recording_file.save(tmp_path / name, report, None, about)
    command = ["recording", "compare", str(tmp_path / "a.npz"), str(tmp_path / "b.npz")]
    assert cli.main([*command, "--width", "120"]) == 0
    out = capsys.readouterr().out
    assert all(
        word in out for word in ("A: ", "B: ", "difference", "regions, median", "accessed memory, mean")
    )
    assert all(words in out for words in ("less in A '", "more in A '"))
    assert "really" not in out
    assert max(map(len, out.splitlines()[2:])) <= 120
    head, first = (next(line for line in out.splitlines() if line.endswith(end)) for end in ("  B", "  20"))
    assert first.startswith("snapshots")
    assert [head.index(name) for name in "AB"] == _starts(first)
    assert cli.main([*command, "--png", str(tmp_path / "p.svg")]) == 0
    assert (tmp_path / "p.svg").stat().st_size > 9999
    assert cli.main([*command, "--target", "3"]) == 2


def _starts(row: str) -> list[int]:
    """Return where the values of a row of the table begin."""
    return [match.start() + 2 for match in re.finditer(r"  (?=\S)", row)]

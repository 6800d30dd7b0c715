# SPDX-License-Identifier: GPL-2.0
"""``damon-tests monitor --play``: a recording shown again as it grew."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from synthetic_recordings import MIB, MS, recording, snapshot

from damon_tests import cli
from damon_tests.commands import playback
from damon_tests.damon import recording_file
from damon_tests.damon.recording_file import Saved


def saved(seconds: int = 30) -> Saved:
    """8 MiB, of which 2 MiB are hot, in a snapshot each 100 ms."""
    rows = [(0, 2 * MIB, 20, 0), (2 * MIB, 8 * MIB, 0, 0)]
    return Saved(recording([snapshot(i * 100 * MS, rows) for i in range(1, seconds * 10 + 1)]))


def test_without_a_terminal_there_is_a_line_for_each_second(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording_file.save(tmp_path / "r.npz", saved(3).recording)
    assert cli.main(["monitor", "--play", str(tmp_path / "r.npz")]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert len(lines) == 3
    assert all("hot 2 MiB, cold 6 MiB, 2 regions" in line for line in lines)


def test_shown_are_the_last_seconds_or_all_up_to_the_position() -> None:
    position = playback.Position(length_ns=30_000 * MS, speed=1)
    position.advance(25)
    assert len(playback.up_to(saved(), position).recording.snapshots) == 200
    position.take("z")
    assert len(playback.up_to(saved(), position).recording.snapshots) == 250


def test_keys_change_speed_pause_and_end() -> None:
    position = playback.Position(length_ns=30_000 * MS, speed=1)
    position.take("+")
    position.advance(2)
    position.take(" ")
    position.advance(5)
    assert position.at_ns == 4_000 * MS
    position.take("-")
    position.take(" ")
    position.advance(100)
    assert position.at_ns == position.length_ns
    position.take("q")
    assert position.ended


def test_a_terminal_shows_the_recording_to_its_end(tmp_path: Path) -> None:
    out = io.StringIO()
    recording_file.save(tmp_path / "r.npz", saved(2).recording)
    console = Console(file=out, force_terminal=True, width=100, height=40)
    assert playback.play(tmp_path / "r.npz", 20, console) == 0
    assert "2.0 of 2.0 s, 20 times as fast" in out.getvalue()
    assert "hot 2 MiB, cold 6 MiB, 2 regions" in out.getvalue()

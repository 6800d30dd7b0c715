# SPDX-License-Identifier: GPL-2.0
"""``damon-tests truth -- CMD``: what anyone's program accesses, and what a kernel's DAMON reports of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from damon_tests import cli
from damon_tests.damon import damo_import, recording_file
from damon_tests.workload import truth_file

pytestmark = [pytest.mark.vm, pytest.mark.slow]

TRUTH = ["truth", "--kernel", "debian:7.3", "--warm", "0.2", "--seconds", "1"]


def test_command_is_watched_and_its_truth_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    busy = ["/bin/sh", "-c", "while :; do :; done"]
    assert cli.main([*TRUTH, "--output", str(tmp_path / "out"), "--", *busy]) == 0
    out, err = capsys.readouterr()
    assert "DAMON watches sh for 1.0 s" in err
    assert re.search(r"precision .* correct: [\d.]+ to [\d.]+", out)
    assert re.search(r"^PASS ", out, re.MULTILINE)
    saved = truth_file.load(tmp_path / "out" / "truth.npz")
    assert (saved.level, saved.space) == ("7.3", "virtual")
    (shown,) = damo_import.load(tmp_path / "out" / "truth.data")
    (reported,) = damo_import.load(tmp_path / "out" / "damon.data")
    assert len(shown.recording.snapshots) == len(reported.recording.snapshots) > 5
    assert recording_file.read(tmp_path / "out" / "recording.npz").truth is not None


def test_command_that_ends_too_soon_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*TRUTH, "--output", str(tmp_path / "out"), "--", "/bin/echo", "all of it"]) == 6
    err = capsys.readouterr().err
    assert "echo has ended (exit code 0) before it was watched to the end" in err
    assert "it printed: all of it" in err

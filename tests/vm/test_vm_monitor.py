# SPDX-License-Identifier: GPL-2.0
"""``damon-tests monitor TARGET --kernel K``: a DAMON, live, with its cost; the recording has truth."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from damon_tests import cli
from damon_tests.damon import recording_file

pytestmark = [pytest.mark.vm, pytest.mark.slow]


@pytest.mark.parametrize("kernel", ["debian:7.3"])
def test_kernel_is_watched_while_it_watches(
    kernel: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = tmp_path / "hot_cold.npz"
    arguments = ["monitor", "hot_cold", "--kernel", kernel, "--seconds", "12", "--record", str(record)]
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    assert re.search(rf"hot_cold \(process \d+\), watched by DAMON of {kernel}", out)
    assert re.search(r"hot [\d.]+ MiB, cold [\d.]+ MiB, \d+ regions, kdamond [\d.]+% of a CPU", out)
    saved = recording_file.read(record)
    assert len(saved.recording.snapshots) > 5
    assert saved.truth is not None
    assert {"data"} <= saved.about.layout.keys()

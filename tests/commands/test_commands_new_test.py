# SPDX-License-Identifier: GPL-2.0
"""``damon-tests new-test``: a skeleton that passes, and names that are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from damon_tests.cli import main


def test_the_skeleton_passes_as_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = str(tmp_path / "quiet_memory")
    assert main(["new-test", name]) == 0
    path = tmp_path / "test_quiet_memory.py"
    assert f"damon-tests run {path}" in capsys.readouterr().out
    assert main(["run", "--output", str(tmp_path / "run"), str(path)]) == 0
    (test,) = json.loads((tmp_path / "run" / "run.json").read_text())["tests"]
    assert (test["verdict"], test["id"].partition("::")[2]) == ("PASS", "test_quiet_memory")


def test_the_skeleton_can_fail(tmp_path: Path) -> None:
    assert main(["new-test", str(tmp_path / "test_loud_memory.py")]) == 0
    path = str(tmp_path / "test_loud_memory.py")
    fault = ["--fault", "merge_drops_bytes"]
    assert main(["run", *fault, "--output", str(tmp_path / "run"), path]) == 1


@pytest.mark.parametrize("name", ["Loud", "1st", "a-b", "", "a b", "test_"])
def test_other_names_are_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-test", name]) == 2
    assert "is no name for a test" in capsys.readouterr().err


def test_existing_files_and_missing_folders_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test_mine.py").write_text("mine")
    assert main(["new-test", str(tmp_path / "mine")]) == 2
    assert "exists" in capsys.readouterr().err
    assert (tmp_path / "test_mine.py").read_text() == "mine"
    assert main(["new-test", str(tmp_path / "nowhere" / "mine")]) == 2
    assert "no such folder" in capsys.readouterr().err

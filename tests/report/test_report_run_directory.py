# SPDX-License-Identifier: GPL-2.0
"""A run's directory: one run in it, one writer, and nothing of others removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from damon_tests.ports import UsageError
from damon_tests.report.events import RunLog
from damon_tests.report.run_directory import Claim, attempt_directory, being_written


def write_run(directory: Path) -> None:
    with RunLog(directory) as log:
        log.run_started({})


def test_directory_with_a_run_is_refused_unless_it_is_to_be_overwritten(tmp_path: Path) -> None:
    write_run(tmp_path)
    (tmp_path / "tests" / "old").mkdir(parents=True)
    (tmp_path / "notes").write_text("of the user")
    with pytest.raises(UsageError, match=r"holds the results of a run: .*--overwrite"):
        Claim(tmp_path)
    Claim(tmp_path, overwrite=True).release()
    assert [p.name for p in tmp_path.iterdir()] == ["notes"]


def test_overwriting_what_is_no_run_removes_nothing(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "mine").touch()
    Claim(tmp_path, overwrite=True).release()
    assert (tmp_path / "tests" / "mine").exists()


def test_directory_in_use_is_refused(tmp_path: Path) -> None:
    claim = Claim(tmp_path / "run")
    assert being_written(tmp_path / "run")
    with pytest.raises(UsageError, match="another run writes its results there"):
        Claim(tmp_path / "run", overwrite=True)
    claim.release()
    assert not being_written(tmp_path / "run")


def test_directories_made_for_nothing_disappear(tmp_path: Path) -> None:
    Claim(tmp_path / "a" / "b").release()
    assert list(tmp_path.iterdir()) == []
    claim = Claim(tmp_path / "a" / "b")
    write_run(tmp_path / "a" / "b")
    claim.release()
    assert (tmp_path / "a" / "b" / "events.jsonl").exists()


@pytest.mark.parametrize("place", ["file/run", "/proc/x", "/dev/null"])
def test_place_for_no_directory_is_a_sentence(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="results cannot be written to"):
        Claim(tmp_path / place)


def test_tests_never_share_a_directory(tmp_path: Path) -> None:
    ids = ["a/test_x.py::t", "b/test_x.py::t", "a.py::t[1/2]", "a.py::t[1?2]", "a.py::t[1 2]"]
    ids += [f"a.py::t[{'x' * 300}{end}]" for end in "12"]
    assert len({attempt_directory(tmp_path, test_id, 1) for test_id in ids}) == len(ids)

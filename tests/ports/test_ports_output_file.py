# SPDX-License-Identifier: GPL-2.0
"""Output files: complete or not at all, and never in place of a device, a pipe or a link."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from damon_tests.ports import UsageError
from damon_tests.ports.output_file import check_writable, write_bytes, write_text, writing


def test_regular_file_appears_complete_and_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("before")
    path.chmod(0o640)
    with writing(path) as file:
        file.write(b"after")
        file.flush()
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["out"]


def test_error_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("before")

    def write_half() -> None:
        with writing(path) as file:
            file.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["out"]


def test_link_is_followed_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    write_text(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "text"


def test_pipe_is_written_through(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(path.read_bytes()))
    reader.start()
    check_writable(path)
    write_bytes(path, b"text")
    reader.join(10)
    assert got == [b"text"]
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_devices_stay_devices() -> None:
    write_text(Path("/dev/null"), "text")
    with pytest.raises(OSError, match=r"No space left on device: '/dev/full'"):
        write_text(Path("/dev/full"), "text")
    for name in ("/dev/null", "/dev/full"):
        assert stat.S_ISCHR(os.stat(name).st_mode)


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_goes_after_what_was_printed(tmp_path: Path, name: str) -> None:
    script = (
        "from pathlib import Path; from damon_tests.ports.output_file import write_text;"
        f"print('first'); write_text(Path({name!r}), 'second\\n')"
    )
    for out in (tmp_path / "file", None):
        with out.open("w") if out else open(os.devnull) as redirected:
            done = subprocess.run(
                [sys.executable, "-c", script],
                stdout=redirected if out else subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                check=True,
            )
        assert (out.read_text() if out else done.stdout) == "first\nsecond\n"


@pytest.mark.parametrize("name", ["", "no/such/file", "directory", "file/below", "x" * 300])
def test_impossible_name_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(UsageError):
        check_writable(Path(name))
    with pytest.raises((UsageError, OSError)):
        write_text(Path(name), "text")
    assert sorted(os.listdir(tmp_path)) == ["directory", "file"]

# SPDX-License-Identifier: GPL-2.0
"""System calls on the served tree are answered as by sysfs."""

from __future__ import annotations

import ctypes.util
import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from serving import COMMAND, Server, environment, needs_fuse, needs_libfuse, server, stage, until

from damon_tests.ports import NotSupported
from damon_tests.reference.serve import fuse_direct, fuse_library

TRANSPORTS = ("direct", "library")


@pytest.fixture(scope="module", params=TRANSPORTS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    needs_fuse()
    if os.getuid() != 0:
        pytest.skip("only root may mount here")
    if request.param == "library":
        needs_libfuse()
    with server(tmp_path_factory.mktemp("serve") / "at", "--transport", request.param) as started:
        yield started
        assert "Traceback" not in started.errors.read_text()


@pytest.fixture
def kdamonds(served: Server) -> Iterator[Path]:
    (served.kdamonds / "nr_kdamonds").write_text("1")
    yield served.kdamonds
    for name in os.listdir(served.kdamonds):
        if name.isdecimal() and (served.kdamonds / name / "state").read_text() == "on\n":
            (served.kdamonds / name / "state").write_text("off")
    (served.kdamonds / "nr_kdamonds").write_text("0")


def errno_of(function: Callable[[], object]) -> int:
    """Return how it failed; 0 when it did not."""
    try:
        function()
    except OSError as error:
        return error.errno or 0
    return 0


def test_files_look_like_those_of_sysfs(kdamonds: Path) -> None:
    status = (kdamonds / "0/pid").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_size) == (0o400, 4096)
    assert stat.S_IMODE((kdamonds / "0/state").stat().st_mode) == 0o600
    assert stat.S_IMODE((kdamonds / "0/contexts").stat().st_mode) == 0o755
    assert sorted(os.listdir(kdamonds / "0")) == ["contexts", "pid", "refresh_ms", "state"]


def test_reads_continue_at_an_offset(kdamonds: Path) -> None:
    fd = os.open(kdamonds / "0/pid", os.O_RDONLY)
    try:
        assert os.read(fd, 1) + os.read(fd, 100) == b"-1\n"
        assert os.read(fd, 100) == b""
        assert os.pread(fd, 100, 1) == b"1\n"
    finally:
        os.close(fd)


def test_truncating_changes_nothing(kdamonds: Path) -> None:
    (kdamonds / "0/refresh_ms").write_text("7")
    os.close(os.open(kdamonds / "0/refresh_ms", os.O_WRONLY | os.O_TRUNC))
    os.truncate(kdamonds / "0/refresh_ms", 0)
    assert (kdamonds / "0/refresh_ms").read_text() == "7\n"


def test_a_write_is_one_transaction_of_at_most_a_page(kdamonds: Path) -> None:
    (kdamonds / "0/contexts/nr_contexts").write_text("1")
    schemes = kdamonds / "0/contexts/0/schemes"
    (schemes / "nr_schemes").write_text("1")
    (schemes / "0/filters/nr_filters").write_text("1")
    fd = os.open(schemes / "0/filters/0/memcg_path", os.O_RDWR)
    try:
        assert os.write(fd, b"a" * 5000) == 4096
        assert os.pread(fd, 5000, 0)[:4096] == b"a" * 4096
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("0/state", "nonsense", errno.EINVAL),
        ("0/state", "on", errno.EINVAL),
        ("0/refresh_ms", "4294967296", errno.ERANGE),
        ("0/contexts/nr_contexts", "2", errno.EINVAL),
        ("nr_kdamonds", "2000000", errno.ENOMEM),
    ],
)
def test_errors_come_from_write(kdamonds: Path, path: str, value: str, expected: int) -> None:
    fd = os.open(kdamonds / path, os.O_WRONLY)
    try:
        assert errno_of(lambda: os.write(fd, value.encode())) == expected
        assert os.write(fd, b"") == 0
    finally:
        os.close(fd)


def test_nothing_can_be_made_removed_or_renamed(kdamonds: Path) -> None:
    assert errno_of(lambda: os.open(kdamonds / "0/pid", os.O_WRONLY)) == errno.EACCES
    assert errno_of(lambda: os.open(kdamonds / "new", os.O_WRONLY | os.O_CREAT)) == errno.EACCES
    assert errno_of(lambda: os.mkdir(kdamonds / "new")) == errno.EPERM
    assert errno_of(lambda: os.unlink(kdamonds / "0/pid")) == errno.EPERM
    assert errno_of(lambda: os.rmdir(kdamonds / "0")) == errno.EPERM
    assert errno_of(lambda: os.rename(kdamonds / "0", kdamonds / "1")) == errno.EPERM
    assert errno_of(lambda: os.symlink("x", kdamonds / "x")) == errno.EPERM
    assert errno_of((kdamonds / "3/state").read_text) == errno.ENOENT


def test_a_descriptor_outlives_its_directory_as_enodev(kdamonds: Path) -> None:
    fd = os.open(kdamonds / "0/refresh_ms", os.O_RDWR)
    try:
        (kdamonds / "nr_kdamonds").write_text("1")  # a new directory of the same name
        assert errno_of(lambda: os.read(fd, 10)) == errno.ENODEV
        assert errno_of(lambda: os.write(fd, b"5")) == errno.ENODEV
        assert os.fstat(fd).st_size == 4096
    finally:
        os.close(fd)
    assert (kdamonds / "0/refresh_ms").read_text() == "0\n"


def test_removed_directories_are_gone_at_once(kdamonds: Path) -> None:
    for count in (3, 1, 2, 0, 2):
        (kdamonds / "nr_kdamonds").write_text(str(count))
        for number in range(4):
            assert (kdamonds / str(number) / "state").exists() == (number < count)
        assert len(os.listdir(kdamonds)) == count + 1


def test_monitoring_runs_in_real_time(served: Server, kdamonds: Path) -> None:
    """The hot 32 MiB of the simulated process are found, and the kdamond has a name and a pid."""
    kdamond = stage(kdamonds, served.simulated["sim-hot"])
    (kdamond / "state").write_text("on")
    pid = (kdamond / "pid").read_text().strip()
    assert Path(f"/proc/{pid}/comm").read_text() == "kdamond.0\n"
    tried = kdamond / "contexts/0/schemes/0/tried_regions"

    def hot_bytes() -> int:
        (kdamond / "state").write_text("update_schemes_tried_regions")
        directories = [tried / name for name in os.listdir(tried) if name.isdecimal()]
        return sum(
            int((region / "end").read_text()) - int((region / "start").read_text())
            for region in directories
            if int((region / "nr_accesses").read_text()) > 10
        )

    until(lambda: abs(hot_bytes() - (32 << 20)) < 8 << 20, "32 MiB hot")
    (kdamond / "state").write_text("off")
    assert not Path(f"/proc/{pid}").exists()


def test_a_write_that_waits_holds_nobody_up(served: Server, kdamonds: Path) -> None:
    """While tried regions are waited for: EBUSY where the lock is needed, other files as ever."""
    kdamond = stage(kdamonds, served.simulated["sim-idle"])
    (kdamond / "contexts/0/schemes/0/apply_interval_us").write_text("1500000")
    (kdamond / "state").write_text("on")
    ended = threading.Event()

    def wait() -> None:
        (kdamond / "state").write_text("update_schemes_tried_regions")
        ended.set()

    threading.Thread(target=wait).start()
    until(lambda: errno_of((kdamond / "state").read_text) == errno.EBUSY, "the command is under way")
    assert (kdamond / "contexts/0/operations").read_text() == "vaddr\n"
    (kdamond / "contexts/0/operations").write_text("paddr")
    assert errno_of(lambda: (kdamonds / "nr_kdamonds").write_text("2")) == errno.EBUSY
    if "direct" in " ".join(served.process.args):  # type: ignore[arg-type]
        # Through libfuse this would wait: one inode for a path.
        assert errno_of(lambda: (kdamond / "state").write_text("update_schemes_stats")) == errno.EBUSY
    assert not ended.is_set()
    until(ended.is_set, "the command has ended")


def test_modules_are_served(served: Server) -> None:
    parameters = served.directory / "module/damon_reclaim/parameters"
    assert (parameters / "enabled").read_text() == "N\n"
    assert errno_of(lambda: (parameters / "enabled").write_text("maybe")) == errno.EINVAL


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_nothing_is_left_behind(tmp_path: Path, transport: str, number: int) -> None:
    needs_fuse()
    if os.getuid() != 0:
        pytest.skip("only root may mount here")
    if transport == "library":
        needs_libfuse()
    started = Server(tmp_path / "at", "--transport", transport)
    kdamond = stage(started.kdamonds, started.simulated["sim-hot"])
    (kdamond / "state").write_text("on")
    started.family = started.alive()
    assert len(started.family) >= 6  # server, helper, three simulated processes, a kdamond
    held = os.open(kdamond / "state", os.O_RDONLY)
    try:
        started.stop(number)
        assert started.process.returncode == (-number if number == signal.SIGKILL else 0)
        assert started.errors.read_text() == ""
        assert errno_of(lambda: os.read(held, 10)) in (errno.ENOTCONN, errno.ECONNABORTED, errno.ENODEV)
    finally:
        os.close(held)
    assert os.listdir(tmp_path / "at") == []


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    monkeypatch.setitem(sys.modules, "mfusepy", None)
    with pytest.raises(NotSupported) as caught:
        fuse_library.load()
    assert "libfuse3 is not installed" in str(caught.value)
    assert "mfusepy is not installed" in str(caught.value)
    assert "damon-tests[serve]" in str(caught.value)


@pytest.mark.parametrize(
    "error", [OSError("cannot open shared object"), AttributeError("no symbol fuse_new")]
)
def test_a_library_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(name: str) -> object:
        raise error

    monkeypatch.setattr(ctypes.util, "find_library", lambda name: "libfuse3.so.3")
    monkeypatch.setattr(fuse_library.importlib, "import_module", refuse)
    with pytest.raises(NotSupported) as caught:
        fuse_library.load()
    assert f"libfuse3 cannot be loaded ({error})" in str(caught.value)
    assert "apt-get install fuse3" in str(caught.value)


def test_a_missing_device_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(path: str, flags: int) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(fuse_direct.os, "open", refuse)
    with pytest.raises(NotSupported, match="/dev/fuse cannot be opened"):
        fuse_direct.mount(str(tmp_path))


def test_without_privilege_it_says_so(tmp_path: Path) -> None:
    """Root without any capability may not mount; nothing is left behind then either."""
    command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *COMMAND, "--at", str(tmp_path)]
    if shutil.which("setpriv") is None or os.getuid() != 0:
        pytest.skip("needs setpriv, and root to lose")
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == NotSupported.exit_code
    assert "only root may mount" in done.stderr
    assert "Traceback" not in done.stderr

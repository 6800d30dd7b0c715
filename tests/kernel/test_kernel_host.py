# SPDX-License-Identifier: GPL-2.0
"""This machine as a Machine: files, processes, followed files, clock."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from damon_tests.kernel.host.machine import LocalClock, LocalMachine
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_SEC, ByteStream, FileOp, SpawnRequest, TimedOut

SOON_NS = 30 * NSEC_PER_SEC
CLOCK = LocalClock()


def eventually(condition: Callable[[], bool]) -> bool:
    return CLOCK.wait_until(condition, CLOCK.now_ns() + SOON_NS)


@pytest.fixture
def machine(tmp_path: Path) -> LocalMachine:
    (tmp_path / "sys").mkdir()
    return LocalMachine(root=tmp_path)


@pytest.fixture
def here() -> LocalMachine:
    return LocalMachine()


def test_reads_with_offset_and_size(machine: LocalMachine, tmp_path: Path) -> None:
    (tmp_path / "sys/f").write_bytes(b"0123456789")
    assert machine.read_file("/sys/f") == b"0123456789"
    assert machine.read_file("/sys/f", offset=3) == b"3456789"
    assert machine.read_file("/sys/f", offset=3, size=4) == b"3456"
    assert machine.read_file("/sys/f", size=100) == b"0123456789"


def test_reads_files_larger_than_one_chunk(machine: LocalMachine, tmp_path: Path) -> None:
    data = os.urandom(300_001)
    (tmp_path / "sys/big").write_bytes(data)
    assert machine.read_file("/sys/big") == data
    assert machine.read_file("/sys/big", offset=1, size=200_000) == data[1:200_001]


def test_a_write_replaces_an_attribute_below_a_root(machine: LocalMachine, tmp_path: Path) -> None:
    (tmp_path / "sys/f").write_text("a long value\n")
    machine.write_file("/sys/f", b"2\n")
    assert (tmp_path / "sys/f").read_text() == "2\n"


def test_a_write_at_an_offset_keeps_the_rest(here: LocalMachine, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"0123456789")
    assert here.batch([FileOp("write", str(path), b"ab", offset=4)]) == [b"2"]
    assert path.read_bytes() == b"0123ab6789"


def test_create_makes_a_file_with_its_mode_and_only_these_contents(
    here: LocalMachine, tmp_path: Path
) -> None:
    path = tmp_path / "f"
    here.write_file(str(path), b"first value", create=True, mode=0o600)
    here.write_file(str(path), b"new", create=True)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600


def test_write_is_a_single_system_call(
    here: LocalMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command file acts on every write(2): a value must not arrive in pieces or twice."""
    sizes = []
    write = os.write

    def counted(fd: int, data: bytes) -> int:
        sizes.append(len(data))
        return write(fd, data)

    monkeypatch.setattr(os, "write", counted)
    here.write_file(str(tmp_path / "f"), b"x" * 300_000, create=True)
    assert sizes == [300_000]


@pytest.mark.parametrize("kind", ["read", "write", "list", "walk", "rmdir", "unlink", "stat"])
def test_failures_carry_errno_and_the_path_as_given(machine: LocalMachine, kind: str) -> None:
    (result,) = machine.batch([FileOp(kind, "/sys/absent")])  # type: ignore[arg-type]
    assert isinstance(result, OSError)
    assert (result.errno, result.filename) == (errno.ENOENT, "/sys/absent")


def test_a_failing_write_names_the_file(here: LocalMachine) -> None:
    with pytest.raises(OSError, match="/dev/full") as caught:
        here.write_file("/dev/full", b"x")
    assert caught.value.errno == errno.ENOSPC


def test_a_batch_goes_on_after_a_failure(machine: LocalMachine, tmp_path: Path) -> None:
    results = machine.batch(
        [
            FileOp("mkdir", "/sys/d", mode=0o700),
            FileOp("write", "/sys/d/f", b"1", create=True),
            FileOp("read", "/sys/d/absent"),
            FileOp("read", "/sys/d/f"),
            FileOp("unlink", "/sys/d/f"),
            FileOp("rmdir", "/sys/d"),
        ]
    )
    assert isinstance(results[2], OSError)
    assert [r for r in results if not isinstance(r, OSError)] == [b"", b"1", b"1", b"", b""]
    assert not (tmp_path / "sys/d").exists()


def test_a_batch_can_stop_at_the_first_failure(machine: LocalMachine, tmp_path: Path) -> None:
    ops = [FileOp("mkdir", "/sys/d"), FileOp("read", "/sys/absent"), FileOp("mkdir", "/sys/later")]
    results = machine.batch(ops, stop_on_error=True)
    assert results[0] == b""
    assert [r.errno for r in results[1:] if isinstance(r, OSError)] == [errno.ENOENT, errno.ECANCELED]
    assert not (tmp_path / "sys/later").exists()


def test_list_and_stat_describe_entries(machine: LocalMachine, tmp_path: Path) -> None:
    (tmp_path / "sys/b").mkdir(mode=0o755)
    (tmp_path / "sys/a").write_text("1\n")
    (tmp_path / "sys/a").chmod(0o600)
    (tmp_path / "sys/gone").symlink_to("nowhere")
    listed, stat_result = machine.batch([FileOp("list", "/sys"), FileOp("stat", "/sys/a")])
    assert not isinstance(listed, OSError | bytes)
    assert [(e.path, e.is_dir, e.value) for e in listed] == [
        ("a", False, None),
        ("b", True, None),
        ("gone", False, None),
    ]
    assert not isinstance(stat_result, OSError | bytes)
    assert [(e.path, e.mode, e.is_dir) for e in stat_result] == [("a", 0o600, False)]


def test_walk_returns_values_or_errors_depth_first(machine: LocalMachine, tmp_path: Path) -> None:
    base = tmp_path / "sys/top"
    (base / "d").mkdir(parents=True)
    (base / "d/state").write_text("off\n")
    (base / "d/bytes").write_bytes(b"\xff\n")
    (base / "z").write_text("1")
    (base / "secret").write_text("")
    (base / "secret").chmod(0o200)
    (base / "circle").symlink_to(base)
    (walked,) = machine.batch([FileOp("walk", "/sys/top")])
    assert not isinstance(walked, OSError | bytes)
    assert [(e.path, e.is_dir, e.value) for e in walked] == [
        ("circle", True, None),
        ("d", True, None),
        ("d/bytes", False, "\udcff\n"),
        ("d/state", False, "off\n"),
        ("secret", False, None),
        ("z", False, "1"),
    ]
    error = walked[4].error
    assert error is not None
    assert (error.path, error.errno, error.operation) == ("/sys/top/secret", errno.EACCES, "read")


def test_walk_does_not_wait_for_a_blocking_file(machine: LocalMachine, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "sys/fifo")
    (walked,) = machine.batch([FileOp("walk", "/sys")])
    assert not isinstance(walked, OSError | bytes)
    assert [e.path for e in walked] == ["fifo"]


def test_begin_write_does_not_block_the_caller(machine: LocalMachine, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "sys/state")
    pending = machine.begin_write_file("/sys/state", b"on")  # opening a FIFO waits for its reader
    assert not pending.done()
    with pytest.raises(TimedOut, match="/sys/state"):
        pending.result(1)
    assert (tmp_path / "sys/state").read_bytes() == b"on"
    pending.result(SOON_NS)
    assert pending.done()


def test_pending_write_raises_the_error_of_write(machine: LocalMachine) -> None:
    pending = machine.begin_write_file("/sys/absent", b"on")
    with pytest.raises(FileNotFoundError, match="/sys/absent"):
        pending.result(SOON_NS)


def python(code: str, **env: str) -> SpawnRequest:
    return SpawnRequest([sys.executable, "-S", "-c", code], env=env)


def test_a_process_has_streams_exact_environment_and_status(here: LocalMachine) -> None:
    process = here.spawn(
        python(
            "import os, sys\n"
            "print(sorted(k for k in os.environ if k != 'LC_CTYPE'), os.getcwd(), sys.stdin.read())\n"
            "print('oops', file=sys.stderr)\n"
            "sys.exit(3)",
            ONLY="1",
        )
    )
    process.write_stdin(b"he")
    process.write_stdin(b"llo")
    process.close_stdin()
    status = process.wait(SOON_NS)
    assert (status.code, status.signal, status.ok) == (3, None, False)
    assert process.read_stdout() == b"['ONLY'] / hello\n"
    assert process.read_stderr() == b"oops\n"
    assert process.read_stdout() == b""
    assert process.poll() == status
    process.kill(signal.SIGKILL)  # nothing there: no error


def test_much_output_does_not_block_the_process(here: LocalMachine) -> None:
    process = here.spawn(python("import sys; sys.stdout.write('x' * 5_000_000)"))
    assert process.wait(SOON_NS).ok
    assert len(process.read_stdout()) == 5_000_000


def test_output_arrives_while_running_and_kill_is_in_the_status(here: LocalMachine) -> None:
    process = here.spawn(python("import signal; print('ready', flush=True); signal.pause()"))
    received = bytearray()

    def ready() -> bool:
        received.extend(process.read_stdout())
        return b"ready\n" in received

    assert eventually(ready)
    assert process.poll() is None
    with pytest.raises(TimedOut, match=str(process.pid)):
        process.wait(1)
    process.kill(signal.SIGKILL)
    status = process.wait(SOON_NS)
    assert (status.code, status.signal) == (None, signal.SIGKILL)


def test_child_that_keeps_the_pipes_open_does_not_hang_wait(here: LocalMachine) -> None:
    process = here.spawn(
        python(
            "import os, signal\n"
            "child = os.fork()\n"
            "if not child: signal.pause()\n"
            "print(child, flush=True)\n"
            "os._exit(0)"
        )
    )
    assert process.wait(SOON_NS).ok
    os.kill(int(process.read_stdout()), signal.SIGKILL)


def test_a_missing_program_is_an_oserror_with_its_name(here: LocalMachine) -> None:
    with pytest.raises(FileNotFoundError, match="/nowhere/program"):
        here.spawn(SpawnRequest(["/nowhere/program"]))


@pytest.fixture
def following(machine: LocalMachine, tmp_path: Path) -> Iterator[tuple[ByteStream, int]]:
    """Yield a followed FIFO and its write end; like trace_pipe, reads block while it is empty."""
    os.mkfifo(tmp_path / "sys/pipe")
    stream = machine.follow("/sys/pipe")
    write_end = os.open(tmp_path / "sys/pipe", os.O_WRONLY)
    yield stream, write_end
    stream.close()
    os.close(write_end)


def test_followed_file_delivers_data_as_it_arrives(following: tuple[ByteStream, int]) -> None:
    stream, write_end = following
    received = bytearray()

    def got(expected: bytes) -> bool:
        received.extend(stream.read())
        return bytes(received) == expected

    os.write(write_end, b"one\n")
    assert eventually(lambda: got(b"one\n"))
    os.write(write_end, b"two\n")
    assert eventually(lambda: got(b"one\ntwo\n"))
    assert stream.lost() == 0


def test_follow_closes_while_blocked_and_keeps_earlier_data(following: tuple[ByteStream, int]) -> None:
    stream, write_end = following
    os.write(write_end, b"last words")
    closer = threading.Thread(target=stream.close)
    closer.start()
    closer.join(SOON_NS / NSEC_PER_SEC)
    assert not closer.is_alive()
    stream.close()
    assert stream.read() == b"last words"


def test_follow_reads_a_growing_regular_file(machine: LocalMachine, tmp_path: Path) -> None:
    path = tmp_path / "sys/log"
    path.write_text("a")
    stream = machine.follow("/sys/log")
    received = bytearray()

    def got(expected: bytes) -> bool:
        received.extend(stream.read())
        return bytes(received) == expected

    assert eventually(lambda: got(b"a"))
    with path.open("a") as file:
        file.write("b")
    assert eventually(lambda: got(b"ab"))
    stream.close()


def test_close_delivers_all_existing_data(machine: LocalMachine, tmp_path: Path) -> None:
    data = os.urandom(20 << 20)
    (tmp_path / "sys/log").write_bytes(data)
    stream = machine.follow("/sys/log")
    stream.close()
    assert stream.read() == data


def test_following_a_missing_file_fails_at_once(machine: LocalMachine) -> None:
    with pytest.raises(FileNotFoundError, match="/sys/absent"):
        machine.follow("/sys/absent")


def test_follow_closes_its_descriptors(machine: LocalMachine, tmp_path: Path) -> None:
    (tmp_path / "sys/log").write_text("")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        machine.follow("/sys/log").close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_clock_waits_at_least_as_long_as_asked() -> None:
    start = CLOCK.now_ns()
    CLOCK.run_for(20 * NSEC_PER_MSEC)
    assert CLOCK.now_ns() - start >= 20 * NSEC_PER_MSEC


def test_wait_until_checks_once_more_after_the_deadline() -> None:
    tries = []

    def condition() -> bool:
        tries.append(CLOCK.now_ns())
        return False

    deadline = CLOCK.now_ns() + 30 * NSEC_PER_MSEC
    assert not CLOCK.wait_until(condition, deadline, 7 * NSEC_PER_MSEC)
    assert len(tries) > 1
    assert tries[-1] >= deadline
    assert CLOCK.wait_until(lambda: True, 0)

# SPDX-License-Identifier: GPL-2.0
"""A command run by ``serve --exec`` sees the reference, and never the machine's own DAMON."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from serving import COMMAND, ROOT, around, environment, needs_fuse, until

from damon_tests.damon.trace import parse_line

ADMIN = "/sys/kernel/mm/damon/admin/kdamonds"


@pytest.fixture(autouse=True)
def _fuse() -> None:
    needs_fuse()


def test_the_command_sees_the_reference() -> None:
    done = around("sh", "-c", f"echo 3 > {ADMIN}/nr_kdamonds; ls {ADMIN}; ls -d /sys/module/damon_*; id -u")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        *("0", "1", "2", "nr_kdamonds"),
        *(f"/sys/module/damon_{name}" for name in ("lru_sort", "reclaim", "stat")),
        "0",
    ]


def test_a_level_has_the_modules_of_its_kernel() -> None:
    done = around("sh", "-c", "ls -d /sys/module/damon_*", level="6.12")
    assert "damon_stat" not in done.stdout
    assert "damon_reclaim" in done.stdout


def test_neighbours_of_what_is_covered_stay() -> None:
    before = {n for n in os.listdir("/sys/module") if not n.startswith("damon_")}
    done = around("ls", "/sys/module")
    assert before <= set(done.stdout.split())
    assert set(os.listdir("/sys/kernel/mm")) <= set(around("ls", "/sys/kernel/mm").stdout.split()) | {"damon"}


def test_the_machines_own_damon_is_out_of_reach() -> None:
    """Covers cannot be removed or gone around; nothing is written outside, whatever is tried."""
    tries = (
        "umount /sys/kernel/mm/damon; umount -l /sys/kernel/mm; umount -l /sys/module; umount -l /sys",
        "mount -o remount,rw,bind /sys",
        "mkdir -p $HOME/s; mount -t sysfs none $HOME/s && ls $HOME/s/kernel/mm/damon",
        "mount --rbind /sys $HOME/s && umount -l $HOME/s/kernel/mm/damon && echo uncovered",
        "ls /proc/1/root/sys/kernel/mm/damon",
        f"ls /proc/{os.getpid()}/root/sys/kernel/mm/damon",
        "nsenter -t 1 -m ls /sys/kernel/mm/damon",
    )
    proof = f"cat /sys/kernel/mm/damon/.damon-tests; grep -c . {ADMIN}/nr_kdamonds"
    done = around("sh", "-c", "; ".join((*tries, proof)))
    assert re.fullmatch(r"[0-9a-f]{32}\n1\n", done.stdout), (done.stdout, done.stderr)


def test_sys_is_read_only_around_the_covers() -> None:
    done = around("sh", "-c", "echo 1 > /sys/kernel/mm/ksm/run; echo $?")
    assert done.stdout.strip() != "0" or not os.path.exists("/sys/kernel/mm/ksm/run")
    assert "Read-only" in done.stderr or not os.path.exists("/sys/kernel/mm/ksm/run")


VERIFY = """
import os, sys
from damon_tests.reference.serve import linux_calls
from damon_tests.reference.serve.hide_kernel_damon import Covers
if pid := os.fork():  # numpy's threads are not in the child
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
linux_calls.new_user_and_mount_namespaces()
served, work, cover = sys.argv[1:]
covers = Covers(served, work, "nonce")
if cover:
    covers.install([])
covers.verify()
print("verified")
"""


def fake_served(tmp_path: Path, nonce: str) -> Path:
    for name in ("kernel/mm/damon", "module/damon_reclaim"):
        (tmp_path / "served" / name).mkdir(parents=True)
        (tmp_path / "served" / name / ".damon-tests").write_text(nonce)
    (tmp_path / "work").mkdir()
    return tmp_path / "served"


@pytest.mark.parametrize(
    ("nonce", "cover", "complaint"),
    [
        ("nonce", "yes", ""),
        ("nonce", "", "still the kernel's|No such file"),
        ("other", "yes", "not served by this server"),
    ],
)
def test_uncovered_kernel_files_are_noticed(tmp_path: Path, nonce: str, cover: str, complaint: str) -> None:
    served = fake_served(tmp_path, nonce)
    done = subprocess.run(
        [sys.executable, "-c", VERIFY, str(served), str(tmp_path / "work"), cover],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ("verified" in done.stdout) == (not complaint)
    assert re.search(complaint, done.stderr)


@pytest.mark.parametrize(("command", "code"), [("exit 3", 3), ("kill -9 $$", 137), ("true", 0)])
def test_the_exit_code_is_the_commands(command: str, code: int) -> None:
    assert around("sh", "-c", command).returncode == code


@pytest.mark.parametrize(
    ("level", "command", "says"),
    [
        ("9.9", "true", "unknown level '9.9'"),
        ("7.3", "no-such-program", "no-such-program cannot be run"),
    ],
)
def test_bad_input_is_a_sentence(level: str, command: str, says: str) -> None:
    done = around(command, level=level)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_what_the_command_leaves_is_ended() -> None:
    done = around("sh", "-c", "sleep 300 & echo $!; sleep 300 & disown 2>/dev/null; true")
    pid = int(done.stdout.split()[0])
    until(lambda: not psutil.pid_exists(pid) or is_zombie(pid), "the orphan is gone")


def is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_killed_with_sigkill_it_leaves_nothing(tmp_path: Path) -> None:
    pid_file, temporary = tmp_path / "pid", tmp_path / "tmp"
    temporary.mkdir()
    outer = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "damon_tests.cli",
            "serve",
            "--exec",
            "sh",
            "-c",
            f"echo $$ > {pid_file}; sleep 300",
        ],
        env={**environment(), "TMPDIR": str(temporary)},
    )
    until(lambda: pid_file.exists() and pid_file.read_text().strip() != "", "the command runs")
    assert os.listdir(temporary)
    family = psutil.Process(outer.pid).children(recursive=True)
    assert len(family) >= 6
    outer.kill()
    outer.wait()
    until(lambda: all(not p.is_running() or is_zombie(p.pid) for p in family), "all processes are gone")
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    assert [m for m in mounts if "damon-tests" in m and str(tmp_path) in m] == []
    assert os.listdir(temporary) == []


def test_sigterm_ends_it_without_a_message(tmp_path: Path) -> None:
    """CI's cancel: the exit code says which signal it was, and nothing looks like a failure."""
    pid_file = tmp_path / "pid"
    command = ["sh", "-c", f"echo $$ > {pid_file}; sleep 300"]
    outer = subprocess.Popen(
        [sys.executable, "-m", "damon_tests.cli", "serve", "--exec", *command],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: pid_file.exists() and pid_file.read_text().strip() != "", "the command runs")
    outer.terminate()
    _, errors = outer.communicate(timeout=30)
    assert (outer.returncode, errors) == (143, "")


def test_home_is_private() -> None:
    """damo keeps what it found out about a kernel there."""
    done = around("sh", "-c", "touch $HOME/.damo.sysinfo; echo $HOME")
    assert done.stdout.strip() != os.path.expanduser("~")
    assert not os.path.exists(done.stdout.strip())


def test_real_processes_are_watched(tmp_path: Path) -> None:
    """The command's own processes can be monitored: the written half of a mapping is found hot."""
    script = tmp_path / "writer.py"
    script.write_text(
        "import mmap, sys\n"
        "m = mmap.mmap(-1, 64 << 20)\n"
        "m.write(bytes(64 << 20))\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    for i in range(0, 16 << 20, 4096): m[i] = 1\n"
    )
    client = tmp_path / "client.py"
    client.write_text(
        f"import subprocess, sys, os; sys.path[:0] = [{str(ROOT / 'tests/reference')!r}]\n"
        "from pathlib import Path\nfrom serving import stage, until\n"
        f"w = subprocess.Popen([sys.executable, {str(script)!r}], stdout=subprocess.PIPE)\n"
        "w.stdout.readline()\n"
        f"k = stage(Path({ADMIN!r}), w.pid)\n"
        "(k / 'state').write_text('on')\n"
        "t = k / 'contexts/0/schemes/0/tried_regions'\n"
        "def hot():\n"
        "    (k / 'state').write_text('update_schemes_tried_regions')\n"
        "    r = [t / n for n in os.listdir(t) if n.isdecimal()]\n"
        "    v = lambda d, n: int((d / n).read_text())\n"
        "    return sum(v(d, 'end') - v(d, 'start') for d in r if v(d, 'nr_accesses') > 2)\n"
        "until(lambda: abs(hot() - (16 << 20)) < (6 << 20), '16 MiB hot')\n"
        "w.kill(); w.wait()\n"
        "until(lambda: (k / 'state').read_text() == 'off\\n', 'off when the process has ended')\n"
        "print('found')\n"
    )
    done = around(sys.executable, str(client))
    assert done.stdout == "found\n", (done.stdout, done.stderr)


TRACE = f"""
cd "$HOME"
perf record -a -o trace -e damon:damon_aggregated -e damon:damos_before_apply & perf=$!
while ! [ -s trace ]; do sleep 0.1; done
cd {ADMIN}
echo 1 > nr_kdamonds
echo 1 > 0/contexts/nr_contexts
echo 1 > 0/contexts/0/targets/nr_targets
echo "$DAMON_TESTS_SIM_HOT" > 0/contexts/0/targets/0/pid_target
echo on > 0/state
cat 0/pid
sleep 1
echo off > 0/state
kill -INT $perf
wait $perf || exit 9
cd "$HOME"
perf script --force -i trace
"""


def test_perf_records_the_references_events() -> None:
    """What damo runs: perf record until SIGINT, and perf script. Lines are those that perf prints."""
    done = around("bash", "-c", TRACE)
    assert (done.returncode, done.stderr) == (0, "")
    pid, *lines = done.stdout.splitlines()
    events = [parse_line(line) for line in lines]
    assert {(event.name, event.pid) for event in events} == {("damon_aggregated", int(pid))}
    assert len(events) >= 10  # at least one aggregation


@pytest.mark.parametrize(
    ("call", "code", "says"),
    [
        ("record -e damon:nonsense -o trace", 1, "damon:nonsense cannot be traced"),
        ("record -e damon:damon_aggregated,sched:sched_switch", 1, "sched:sched_switch cannot be traced"),
        ("stat -edamon:damon_aggregated true", 1, "not perf stat"),
        ("record --event=damon:damon_aggregated --output=none/trace", 1, "No such file or directory"),
        ("script -i nothing", 127, "perf must be installed"),
        ("", 127, "perf must be installed"),
    ],
)
def test_perf_refuses_with_a_sentence(call: str, code: int, says: str) -> None:
    """The machine's perf is asked for what is not DAMON's; here there is none."""
    done = around("sh", "-c", f'PATH="${{PATH%%:*}}"; cd "$HOME"; perf {call}')
    assert done.returncode == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_it_starts_quickly_enough_to_be_used_for_one_command() -> None:
    """Not a timed test: only that nothing waits for a timeout."""
    started = time.monotonic()
    assert around("true").returncode == 0
    assert time.monotonic() - started < 60


def test_no_privilege_is_needed() -> None:
    """Root without the capabilities is like any user (who maps no uid 0: that is what setfcap is for)."""
    if shutil.which("setpriv") is None or os.getuid() != 0:
        pytest.skip("needs setpriv, and root to lose")
    few = ["--bounding-set=-all,+setfcap", "--inh-caps=-all"]
    command = ["setpriv", *few, *COMMAND, "--exec", "ls", ADMIN]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("nr_kdamonds\n", 0), done.stderr


def test_a_kernel_without_damon(tmp_path: Path) -> None:
    """Where /sys/kernel/mm has no damon directory, its other children are still there."""
    script = f"""
    mount -t tmpfs none /sys/kernel/mm && mkdir /sys/kernel/mm/other && echo hello > /sys/kernel/mm/other/file
    ln -s other /sys/kernel/mm/link
    {shlex.join([*COMMAND, "--exec", "sh", "-c", f"cat /sys/kernel/mm/link/file; ls /sys/kernel/mm {ADMIN}"])}
    """
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", script],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == [
        *("hello", "/sys/kernel/mm:", "damon", "link", "other", f"{ADMIN}:", "nr_kdamonds")
    ], done.stderr


def test_shell_in_a_terminal_says_where_one_is(tmp_path: Path) -> None:
    pid, terminal = pty.fork()
    if not pid:
        try:
            os.execve(COMMAND[0], [*COMMAND, "--level", "6.12", "--exec", "bash"], environment())
        finally:
            os._exit(1)
    os.write(terminal, b"exit 3\n")
    shown = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while part := os.read(terminal, 4096):
            shown += part
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    os.close(terminal)
    assert b"in this shell /sys/kernel/mm/damon is the reference, behaving as 6.12" in shown
    assert b"(damon-tests 6.12) " in shown


def test_command_that_is_no_shell_is_not_greeted() -> None:
    done = around("sh", "-c", "echo here")
    assert (done.stdout, done.stderr) == ("here\n", "")

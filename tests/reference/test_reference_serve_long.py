# SPDX-License-Identifier: GPL-2.0
"""Clients that nobody here wrote, and a stress: they take minutes."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from serving import ROOT, Server, around, needs_fuse, server, until

from damon_tests.ports import DamonTestsError

pytestmark = pytest.mark.slow

CLIENTS = 4
OPERATIONS = 2500

# What the tree may answer to somebody who writes nonsense while others remove directories.
ALLOWED = {
    *(errno.EBUSY, errno.EINVAL, errno.ENOENT, errno.ENODEV, errno.EACCES, errno.EPERM, errno.ERANGE),
    *(errno.ENOMEM, errno.ECANCELED, errno.EISDIR, errno.ENOTDIR),
}
COMMANDS = (
    *("on", "on", "on", "off", "commit", "update_schemes_stats", "update_schemes_tried_regions"),
    *("update_schemes_tried_bytes", "clear_schemes_tried_regions", "update_schemes_effective_quotas"),
    *("update_tuned_intervals", "commit_schemes_quota_goals", "nonsense"),
)


def client(root: str, seed: int, pids: list[int], unexpected: multiprocessing.Queue[str]) -> None:
    rng = random.Random(seed)
    for number in range(OPERATIONS):
        try:
            one_operation(rng, Path(root), pids)
        except OSError as error:
            if error.errno not in ALLOWED:
                unexpected.put(f"client {seed}, operation {number}: {error!r}")
    unexpected.put("")


def one_operation(rng: random.Random, root: Path, pids: list[int]) -> None:
    path = somewhere(rng, root)
    name = path.name
    kind = rng.random()
    if path.is_dir():
        os.listdir(path)
    elif kind < 0.3:
        assert path.read_bytes()
    elif name == "state":
        path.write_text(rng.choice(COMMANDS))
    elif name == "pid_target":
        path.write_text(str(rng.choice(pids)))
    elif name.startswith("nr_") and name not in ("nr_accesses",):
        path.write_text(str(rng.choice((0, 1, 1, 1, 2, 3))))
    elif name == "operations":
        path.write_text(rng.choice(("vaddr", "vaddr", "fvaddr", "paddr")))
    elif name == "max":
        path.write_text(str(2**64 - 1))
    elif kind < 0.4:
        held_over(rng, path)
    elif name not in ("sample_us", "aggr_us", "update_us", "interval_us", "apply_interval_us"):
        path.write_text(rng.choice(("0", "1", "4096", "Y", "N", "stat", "-1", "xyz", "99999999999999999999")))


def somewhere(rng: random.Random, path: Path) -> Path:
    """A random file, most often a deep one; prefers what exists."""
    while path.is_dir() and rng.random() > 0.05:
        names = os.listdir(path)
        if not names:
            break
        path = path / rng.choice(names)
    return path


def held_over(rng: random.Random, path: Path) -> None:
    """A descriptor that is used again while others may have removed its directory."""
    with path.open("rb") as file:
        file.read()
        os.listdir(path.parent.parent)
        file.seek(0)
        file.read()


def check_no_stale_directory(directory: Path) -> int:
    """Every numbered directory is below its count, and the other way round. Returns how many lists."""
    lists = 0
    for parent, names, files in os.walk(directory):
        counts = [file for file in files if file.startswith("nr_") and file != "nr_accesses"]
        numbered = sorted(int(name) for name in names if name.isdecimal())
        for count in counts:
            lists += 1
            assert numbered == list(range(int(Path(parent, count).read_text()))), parent
            assert not Path(parent, str(len(numbered))).exists()
    return lists


def test_ten_thousand_random_operations_by_four_clients(tmp_path: Path) -> None:
    needs_fuse()
    if os.getuid() != 0:
        pytest.skip("only root may mount here")
    with server(tmp_path / "at", "--transport", "direct") as served:
        unexpected: multiprocessing.Queue[str] = multiprocessing.get_context("fork").Queue()
        pids = [*served.simulated.values(), 1 << 30, os.getpid(), -5]
        root = str(served.directory / "kernel/mm/damon/admin")
        clients = [
            multiprocessing.get_context("fork").Process(target=client, args=(root, seed, pids, unexpected))
            for seed in range(CLIENTS)
        ]
        for process in clients:
            process.start()
        complaints = [unexpected.get(timeout=300) for _ in clients]
        for process in clients:
            process.join(60)
            assert process.exitcode == 0
        assert not any(complaints), complaints
        leave_off(served)
        assert check_no_stale_directory(served.kdamonds) >= 1
        (served.kdamonds / "nr_kdamonds").write_text("0")
        assert os.listdir(served.kdamonds) == ["nr_kdamonds"]
        complaint = served.errors.read_text()
        assert "Traceback" not in complaint
        assert "reference failed" not in complaint, complaint
        assert "kdamond ended" not in complaint, complaint


def leave_off(served: Server) -> None:
    def off() -> bool:
        for name in os.listdir(served.kdamonds):
            if name.isdecimal() and (served.kdamonds / name / "state").read_text() == "on\n":
                (served.kdamonds / name / "state").write_text("off")
        return True

    until(off, "all kdamonds are off")


DAMO = """
set -e
cd "$HOME"
say() { echo "== $*"; }
say version; damo version
say start; damo start --target_pid "$DAMON_TESTS_SIM_STAIRS"
sleep 2
say status; damo report damon
say access; damo report access --style simple-boxes || damo report access
say tune; damo tune --target_pid "$DAMON_TESTS_SIM_STAIRS" --monitoring_intervals 10ms 200ms 1s
say tuned; damo report damon
say record; damo record --snapshot 0.5s 3 > record.log 2>&1; ls -l damon.data
say heatmap; damo report heatmap --output stdout 2>/dev/null || damo report heatmap
say traced; damo record --timeout 4 --target_pid "$DAMON_TESTS_SIM_STAIRS" > record.log 2>&1
damo report heatmap --output stdout; ls damon.data.old
say stop; damo stop
cat /sys/kernel/mm/damon/admin/kdamonds/0/state
"""


def test_damo_drives_it_unmodified(tmp_path: Path, record_property: pytest.FixtureRequest) -> None:
    """damo from PyPI starts, tunes, reports access and heat map, records snapshots and a trace, and stops."""
    needs_fuse()
    venv.create(tmp_path / "venv", with_pip=True)
    pip = [str(tmp_path / "venv/bin/pip"), "install", "--quiet", "damo"]
    installed = subprocess.run(pip, capture_output=True, text=True, check=False)
    if installed.returncode:
        pytest.skip(f"damo cannot be installed: {installed.stderr.strip()[-200:]}")
    script = f'PATH="{tmp_path}/venv/bin:$PATH"; export PATH\n{DAMO}'
    done = around("bash", "-c", script, timeout=300)
    assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-2000:])
    parts = dict(re.findall(r"^== (\w+)\n(.*?)(?=^== |\Z)", done.stdout, re.MULTILINE | re.DOTALL))
    record_property("damo", parts["version"].strip())  # type: ignore[operator]
    assert re.match(r"\d+\.\d+", parts["version"])
    assert "state: on" in parts["status"]
    assert "sample 10 ms, aggr 200 ms" in parts["tuned"]
    assert "damon.data" in parts["record"]
    assert "x-axis: space" in parts["heatmap"]
    # Each aggregation of about four seconds, by tracepoints.
    span_s = re.search(r"y-axis: time .* \((\S+) s\)", parts["traced"])
    assert span_s is not None
    assert float(span_s[1]) > 2
    assert parts["stop"].strip() == "off"


def selftests() -> list[str]:
    sys.path.insert(0, str(ROOT / "kselftest_compat"))
    import run

    return list(run.ON_REAL_KERNEL)


@pytest.mark.long
@pytest.mark.parametrize("name", selftests())
def test_kernel_selftests_pass_where_they_pass_on_a_kernel(name: str) -> None:
    import run

    needs_fuse()
    try:
        result = run.results([name], "7.3")[name]
    except DamonTestsError as error:
        pytest.skip(str(error))
    if result["verdict"] == "SKIP":
        pytest.skip(result["reason"])
    assert run.as_on_kernel(name, result["verdict"]), result["reason"]

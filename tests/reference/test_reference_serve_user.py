# SPDX-License-Identifier: GPL-2.0
"""``serve --exec`` works for an ordinary user, who cannot become another."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest
from serving import ROOT, needs_fuse

NOBODY = "65534"
ADMIN = "/sys/kernel/mm/damon/admin/kdamonds"

# In its own mount namespace: Python and the project where the user can read them, and /dev/fuse with a mode.
SETUP = """
set -e
mkdir "$1/python" "$1/project" "$1/site" "$1/dev"
mount --bind "$2" "$1/python"
mount --bind "$3" "$1/project"
mount --bind "$4" "$1/site"
mount -t tmpfs tmpfs "$1/dev"
mknod -m "$5" "$1/dev/fuse" c 10 229
mount --bind "$1/dev/fuse" /dev/fuse
python=$1/python/bin/$6 home=$1/home
install -d -o "$7" "$home"
export PYTHONPATH=$1/project:$1/site PYTHONDONTWRITEBYTECODE=1
shift 7
exec env HOME="$home" setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs --bounding-set=-all \\
    "$python" -m damon_tests.cli serve --exec "$@"
"""

USE = f"""
cd {ADMIN}
echo 1 > nr_kdamonds
echo 1 > 0/contexts/nr_contexts
echo vaddr > 0/contexts/0/operations
echo 1 > 0/contexts/0/targets/nr_targets
echo "$DAMON_TESTS_SIM_HOT" > 0/contexts/0/targets/0/pid_target
echo on > 0/state
cat 0/state
ps -p "$(cat 0/pid)" -o comm=
echo off > 0/state
cat 0/state
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that everybody may enter; what is mounted there was mounted for the command only."""
    needs_fuse()
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    made = Path(tempfile.mkdtemp(prefix="damon-tests-user-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def as_nobody(place: Path, mode: str, *command: str) -> subprocess.CompletedProcess[str]:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    prefix = sysconfig.get_config_var("installed_base")
    site = Path(numpy.__file__).parents[1]
    given = [str(place), str(prefix), str(ROOT), str(site), mode, version, NOBODY, *command]
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", SETUP, "sh", *given],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_an_ordinary_user_is_served(place: Path) -> None:
    done = as_nobody(place, "666", "sh", "-c", USE)
    if "mknod" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"this root may not make devices or mount: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["on", "kdamond.0", "off"]


def test_a_device_that_may_not_be_opened_is_named(place: Path) -> None:
    done = as_nobody(place, "600", "true")
    if "mknod" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"this root may not make devices or mount: {done.stderr.strip()}")
    assert done.returncode == 5
    assert "/dev/fuse cannot be opened (Permission denied)" in done.stderr
    assert "let this user open the device" in done.stderr

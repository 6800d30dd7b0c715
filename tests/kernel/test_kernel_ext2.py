# SPDX-License-Identifier: GPL-2.0
"""e2fsck checks the empty file system of guests. tests/vm tests that kernels mount it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from damon_tests.kernel.images import ext2
from damon_tests.ports import UsageError

E2FSCK = shutil.which("e2fsck", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


@pytest.mark.parametrize("size_mib", [1, 64, 127, 128])
def test_fsck_finds_the_file_system_clean(tmp_path: Path, size_mib: int) -> None:
    if E2FSCK is None:
        pytest.skip("e2fsck is not installed (Debian: apt-get install e2fsprogs)")
    image = tmp_path / "disk"
    image.write_bytes(ext2.empty(size_mib))
    os.truncate(image, size_mib << 20)
    done = subprocess.run([E2FSCK, "-f", "-n", image], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert f"10/128 files (0.0% non-contiguous), 9/{size_mib * 256} blocks" in done.stdout


@pytest.mark.parametrize("size_mib", [0, 129])
def test_impossible_size_is_a_usage_error(size_mib: int) -> None:
    with pytest.raises(UsageError, match=f"cannot have {size_mib} MiB"):
        ext2.empty(size_mib)

# SPDX-License-Identifier: GPL-2.0
"""The symbols of a Debian kernel come from its -dbg package, of which only vmlinux is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from debian_archive import DebianArchive, SigningKey, signing_key

from damon_tests.kernel.images import packages
from damon_tests.kernel.images.debug_symbols import debian_vmlinux
from damon_tests.ports import HarnessError, NotSupported, UsageError

key = signing_key  # a fixture of debian_archive


@pytest.fixture
def debian(tmp_path: Path, key: SigningKey, monkeypatch: pytest.MonkeyPatch) -> DebianArchive:
    archive = DebianArchive(tmp_path, key)
    files = {
        "usr/lib/debug/lib/modules/7.3.4-cloud-amd64/vmlinux": b"symbols of 7.3.4",
        "usr/lib/debug/lib/modules/7.3.4-cloud-amd64/kernel/mm/zsmalloc.ko": b"a module",
    }
    archive.add("sid", "linux-image-7.3.4-cloud-amd64-dbg", "7.3.4-1", files)
    archive.add("sid", "linux-image-6.0.0-cloud-amd64-dbg", "6.0.0-1", {"usr/share/doc/x": b""})
    archive.publish()
    monkeypatch.setattr(packages, "debian_mirror", lambda: archive.mirror)
    return archive


def test_vmlinux_is_unpacked_once_and_nothing_else_is_kept(tmp_path: Path, debian: DebianArchive) -> None:
    cache = tmp_path / "cache"
    vmlinux = debian_vmlinux("debian:7.3", "7.3.4-cloud-amd64", cache)
    assert vmlinux.read_bytes() == b"symbols of 7.3.4"
    assert list((cache / "debs").glob("*.deb")) == []
    assert [path.name for path in vmlinux.parent.iterdir() if not path.name.endswith(".lock")] == [
        vmlinux.name
    ]
    vmlinux.write_bytes(b"kept")
    assert debian_vmlinux("debian:newest", "7.3.4-cloud-amd64", cache).read_bytes() == b"kept"


def test_kernel_without_symbols_is_refused_with_the_reason(tmp_path: Path, debian: DebianArchive) -> None:
    with pytest.raises(NotSupported, match=r"no linux-image-5\.0\.0-cloud-amd64-dbg now"):
        debian_vmlinux("debian:5.0", "5.0.0-cloud-amd64", tmp_path / "cache")
    with pytest.raises(HarnessError, match="has no vmlinux"):
        debian_vmlinux("debian:6.0", "6.0.0-cloud-amd64", tmp_path / "cache")
    with pytest.raises(UsageError, match="only Debian's kernels"):
        debian_vmlinux("arch/x86/boot/bzImage", "7.3.4", tmp_path / "cache")

# SPDX-License-Identifier: GPL-2.0
"""cpio tools can read the archive, and modules come in load order."""

from __future__ import annotations

import gzip
import lzma
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from damon_tests.kernel.images import initramfs
from damon_tests.kernel.images.modules import ModuleTree, depends, soft_depends
from damon_tests.ports import NotSupported


def members(archive: bytes) -> dict[str, tuple[int, bytes, tuple[int, int]]]:
    """Parse a newc archive by the format's description; return {name: (mode, data, device)}."""
    nodes = {}
    at = 0
    while at < len(archive):
        assert archive[at : at + 6] == b"070701"
        numbers = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        mode, size, device, name_size = numbers[1], numbers[6], (numbers[9], numbers[10]), numbers[11]
        name = archive[at + 110 : at + 110 + name_size - 1].decode()
        data_at = (at + 110 + name_size + 3) // 4 * 4
        if name == "TRAILER!!!":
            break
        nodes[name] = (mode, archive[data_at : data_at + size], device)
        at = (data_at + size + 3) // 4 * 4
    return nodes


NODES = {
    "init": initramfs.program(b"\x7fELF1"),
    "lib/modules/zram.ko": initramfs.plain(b"module"),
    "bin/sh": initramfs.link("/bin/busybox"),
    "dev/console": initramfs.character_device(5, 1),
}


def test_archive_has_all_members_and_their_parents() -> None:
    nodes = members(initramfs.archive(NODES))
    assert list(nodes) == [
        "bin",
        "bin/sh",
        "dev",
        "dev/console",
        "init",
        "lib",
        "lib/modules",
        "lib/modules/zram.ko",
    ]
    assert nodes["init"] == (stat.S_IFREG | 0o755, b"\x7fELF1", (0, 0))
    assert nodes["lib"][0] == stat.S_IFDIR | 0o755
    assert nodes["bin/sh"] == (stat.S_IFLNK | 0o777, b"/bin/busybox", (0, 0))
    assert nodes["dev/console"] == (stat.S_IFCHR | 0o600, b"", (5, 1))


def test_equal_files_give_an_equal_archive() -> None:
    assert initramfs.archive(NODES) == initramfs.archive(dict(reversed(NODES.items())))


@pytest.mark.skipif(shutil.which("cpio") is None, reason="needs cpio")
def test_cpio_reads_the_archive() -> None:
    result = subprocess.run(["cpio", "-t"], input=initramfs.archive(NODES), capture_output=True, check=True)
    assert result.stdout.decode().split()[-1] == "lib/modules/zram.ko"


def module(needs: str) -> bytes:
    return b"\x7fELF\0license=GPL\0depends=" + needs.encode() + b"\0retpoline=Y\0name=x\0"


def tree(directory: Path) -> ModuleTree:
    for path, data in {
        "kernel/drivers/block/zram/zram.ko.xz": lzma.compress(module("lz4-compress,zsmalloc")),
        "kernel/lib/lz4/lz4_compress.ko.gz": gzip.compress(module("")),
        "kernel/mm/zsmalloc.ko": module("crc32"),
        "modules.builtin": b"kernel/lib/crc32.ko\nkernel/fs/ext4/ext4.ko\n",
    }.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(data)
    return ModuleTree(directory)


def test_each_module_comes_after_its_dependencies(tmp_path: Path) -> None:
    loaded = tree(tmp_path).load_order(["zram"])
    assert [name for name, _ in loaded] == ["lz4_compress", "zsmalloc", "zram"]
    assert loaded[-1][1] == module("lz4-compress,zsmalloc")


def test_built_in_modules_are_left_out(tmp_path: Path) -> None:
    assert tree(tmp_path).load_order(["ext4"]) == []


def test_missing_module_is_not_supported(tmp_path: Path) -> None:
    with pytest.raises(NotSupported, match="the module btrfs of this kernel"):
        tree(tmp_path).load_order(["btrfs"])
    with pytest.raises(NotSupported, match="the module zram of this kernel"):
        ModuleTree(None, {"CONFIG_ZRAM": "m"}).load_order(["zram"])
    with pytest.raises(NotSupported, match="built without zram \\(CONFIG_ZRAM is not set\\)"):
        ModuleTree(None, {"CONFIG_DAMON": "y"}).load_order(["zram"])


def test_module_of_an_unknown_configuration_may_be_built_in() -> None:
    """Only the booted guest can say whether a kernel of which nothing is known has zram."""
    assert ModuleTree(None).load_order(["zram"]) == []


def test_circular_dependencies_terminate(tmp_path: Path) -> None:
    directory = tmp_path / "kernel"
    directory.mkdir()
    (directory / "a.ko").write_bytes(module("b"))
    (directory / "b.ko").write_bytes(module("a"))
    assert [name for name, _ in ModuleTree(tmp_path).load_order(["a"])] == ["b", "a"]


def test_dependencies_are_read_from_modinfo() -> None:
    assert depends(module("snd-pcm,snd")) == ["snd_pcm", "snd"]
    assert depends(module("")) == []
    assert depends(b"no modinfo") == []


def test_soft_dependencies_are_loaded_if_they_are_there(tmp_path: Path) -> None:
    directory = tmp_path / "kernel"
    directory.mkdir()
    mounting = b"\0softdep=pre: crypto-crc32c nowhere post: after\0depends=mbcache\0name=x\0"
    assert soft_depends(mounting) == ["crypto_crc32c", "nowhere"]
    assert soft_depends(b"\0softdep=post: after\0") == soft_depends(module("")) == []
    for name, contents in (("ext4", mounting), ("mbcache", module("")), ("crc32c_generic", module(""))):
        (directory / f"{name}.ko").write_bytes(contents)
    order = [name for name, _ in ModuleTree(tmp_path, {}).load_order(["ext4"])]
    assert order == ["mbcache", "crc32c_generic", "ext4"]

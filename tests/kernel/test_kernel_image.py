# SPDX-License-Identifier: GPL-2.0
"""Resolve a spec to a kernel image: from a path, an archive laid out like Debian's, or the cache."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from debian_archive import DebianArchive, SigningKey, signing_key

from damon_tests.kernel.images.image import (
    check,
    choose,
    group_kernels,
    parse_config,
    parse_version,
    resolve,
)
from damon_tests.kernel.images.packages import Package
from damon_tests.ports import NotSupported, UsageError

key = signing_key  # a fixture of debian_archive

CONFIG = b"CONFIG_DAMON=y\nCONFIG_DAMON_SYSFS=y\n# CONFIG_ZRAM is not set\n"


def bzimage(release: str) -> bytes:
    """Return the part of a bzImage that holds its release (boot.rst: kernel_version)."""
    head = bytearray(0x400)
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x20E, 0x100)
    return bytes(head[:0x300]) + f"{release} (builder@example) #1 SMP\0".encode() + bytes(64)


# Choosing


def test_versions_sort_as_kernels_do() -> None:
    versions = ["7.3~rc7-1~exp1", "7.3-1", "7.3.4-1~bpo13+1", "6.12.107-1", "6.12.90-2~bpo12+1", "6.12.90-1"]
    assert sorted(versions, key=parse_version) == [
        "6.12.90-1",
        "6.12.90-2~bpo12+1",
        "6.12.107-1",
        "7.3~rc7-1~exp1",
        "7.3-1",
        "7.3.4-1~bpo13+1",
    ]


def package(name: str, version: str, depends: str = "") -> Package:
    return Package(name, version, "00", 1, depends)


ARCHIVE = [
    package("linux-image-6.12.90-cloud-amd64", "6.12.90-1"),
    package("linux-image-6.12.107-cloud-amd64", "6.12.107-1"),
    package("linux-image-6.12.107-cloud-amd64-dbg", "6.12.107-1"),
    package("linux-image-6.12.107-amd64", "6.12.107-1"),
    package("linux-binary-7.1.13-cloud-amd64", "7.1.13-1"),
    package("linux-image-7.1.13-cloud-amd64", "7.1.13-1", "linux-binary-7.1.13-cloud-amd64 (= 7.1.13-1)"),
    package("linux-binary-7.2.9-cloud-amd64", "7.2.9-1"),
    package("linux-binary-unsigned-7.2.9-cloud-amd64", "7.2.9-1"),
    package("linux-modules-7.2.9-cloud-amd64", "7.2.9-1"),
    package("linux-base-7.2.9-cloud-amd64", "7.2.9-1"),
    package("linux-binary-7.4-cloud-amd64", "7.4~rc2-1~exp1"),
    package("linux-image-cloud-amd64", "7.2.9-1"),
    package("linux-image-7.0.1-cloud-amd64", "7.0.1-1", "linux-binary-7.0.1-cloud-amd64 (= 7.0.1-1)"),
]


def test_packages_are_grouped_into_kernels() -> None:
    kernels = {kernel.release: [p.name for p in kernel.packages] for kernel in group_kernels(ARCHIVE)}
    assert kernels == {
        "6.12.90-cloud-amd64": ["linux-image-6.12.90-cloud-amd64"],
        "6.12.107-cloud-amd64": ["linux-image-6.12.107-cloud-amd64"],
        "7.1.13-cloud-amd64": ["linux-binary-7.1.13-cloud-amd64"],
        "7.2.9-cloud-amd64": [
            "linux-binary-7.2.9-cloud-amd64",
            "linux-modules-7.2.9-cloud-amd64",
            "linux-base-7.2.9-cloud-amd64",
        ],
        "7.4-cloud-amd64": ["linux-binary-7.4-cloud-amd64"],
    }


@pytest.mark.parametrize(
    ("wanted", "release"),
    [
        ("6.12", "6.12.107-cloud-amd64"),
        ("6.12.90", "6.12.90-cloud-amd64"),
        ("7.1", "7.1.13-cloud-amd64"),
        ("7.4", "7.4-cloud-amd64"),
        ("newest", "7.2.9-cloud-amd64"),
        ("7.0", None),
        ("6.1", None),
    ],
)
def test_newest_fitting_release_is_chosen(wanted: str, release: str | None) -> None:
    chosen = choose(group_kernels(ARCHIVE), wanted)
    assert (chosen.release if chosen else None) == release


@pytest.mark.parametrize("spec", ["debian:", "debian:7", "debian:seven", "debian:7.3-rc1"])
def test_invalid_series_is_a_usage_error(spec: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"kernel series such as 6\.12"):
        resolve(spec, tmp_path)


# An archive


@pytest.fixture
def debian(tmp_path: Path, key: SigningKey, monkeypatch: pytest.MonkeyPatch) -> DebianArchive:
    old, new = "6.12.107-cloud-amd64", "7.3.4-cloud-amd64"
    archive = DebianArchive(tmp_path, key)
    archive.add(
        "trixie",
        f"linux-image-{old}",
        "6.12.107-1",
        {
            f"boot/vmlinuz-{old}": bzimage(old),
            f"boot/config-{old}": CONFIG,
            f"usr/lib/modules/{old}/kernel/zram.ko": b"",
        },
    )
    archive.add(
        "trixie", "linux-image-cloud-amd64", "6.12.107-1", depends=f"linux-image-{old} (= 6.12.107-1)"
    )
    archive.add("sid", f"linux-binary-{new}", "7.3.4-1", {f"usr/lib/modules/{new}/vmlinuz": bzimage(new)})
    archive.add("sid", f"linux-modules-{new}", "7.3.4-1", {f"usr/lib/modules/{new}/kernel/zram.ko": b""})
    archive.add("sid", f"linux-base-{new}", "7.3.4-1", {f"usr/lib/modules/{new}/config": CONFIG})
    archive.publish({"trixie": "stable", "sid": "unstable"})
    monkeypatch.setattr("damon_tests.kernel.images.packages.debian_mirror", lambda: archive.mirror)
    return archive


@pytest.mark.parametrize("spec", ["debian:6.12", "debian:stable"])
def test_image_of_a_single_package_is_unpacked(spec: str, tmp_path: Path, debian: DebianArchive) -> None:
    image = resolve(spec, tmp_path / "cache")
    assert (image.spec, image.release) == (spec, "6.12.107-cloud-amd64")
    assert image.vmlinuz.read_bytes() == bzimage(image.release)
    assert image.modules is not None
    assert (image.modules / "kernel/zram.ko").exists()
    assert image.config == {"CONFIG_DAMON": "y", "CONFIG_DAMON_SYSFS": "y"}
    assert [p[:2] for p in image.packages] == [("linux-image-6.12.107-cloud-amd64", "6.12.107-1")]
    image.require_damon()


@pytest.mark.parametrize("spec", ["debian:7.3", "debian:newest"])
def test_image_of_split_packages_is_unpacked(spec: str, tmp_path: Path, debian: DebianArchive) -> None:
    image = resolve(spec, tmp_path / "cache")
    assert image.release == "7.3.4-cloud-amd64"
    assert image.modules is not None
    assert image.config is not None
    assert len(image.packages) == 3


def test_a_damaged_cached_image_is_unpacked_again(tmp_path: Path, debian: DebianArchive) -> None:
    image = resolve("debian:7.3", tmp_path / "cache")
    image.vmlinuz.write_bytes(b"rot")
    again = resolve("debian:7.3", tmp_path / "cache")
    assert again.vmlinuz.read_bytes() == bzimage(image.release)


def test_cached_image_is_used_when_archive_is_unreachable(tmp_path: Path, debian: DebianArchive) -> None:
    cache = tmp_path / "cache"
    for spec in ("debian:6.12", "debian:7.3", "debian:stable"):
        resolve(spec, cache)
    debian.root.rename(tmp_path / "away")
    for directory in (cache / "apt", cache / "debs"):
        directory.rename(tmp_path / directory.name)
    for spec, release in (("debian:6.12", "6.12.107-cloud-amd64"), ("debian:stable", "6.12.107-cloud-amd64")):
        image = resolve(spec, cache)
        assert image.release == release
        assert "taken from the cache without asking the archive" in image.notes[0]
    with pytest.raises(Exception, match="gave no package lists"):
        resolve("debian:6.16", cache)


def test_series_missing_from_archive_is_not_supported(tmp_path: Path, debian: DebianArchive) -> None:
    with pytest.raises(NotSupported, match=r"no cloud-amd64 kernel 6\.16 now"):
        resolve("debian:6.16", tmp_path / "cache")


# Paths


def test_path_names_an_image(tmp_path: Path) -> None:
    path = tmp_path / "bzImage"
    path.write_bytes(bzimage("7.3.0-mine+"))
    (tmp_path / "config").write_bytes(CONFIG.replace(b"CONFIG_DAMON_SYSFS=y\n", b""))
    image = resolve(str(path))
    assert (image.release, image.vmlinuz, image.modules, image.packages) == ("7.3.0-mine+", path, None, ())
    with pytest.raises(NotSupported, match="built without DAMON"):
        image.require_damon()


def test_config_of_a_build_tree_is_read(tmp_path: Path) -> None:
    path = tmp_path / "arch/x86/boot/bzImage"
    path.parent.mkdir(parents=True)
    path.write_bytes(bzimage("7.3.0"))
    (tmp_path / ".config").write_bytes(CONFIG)
    assert resolve(str(path)).config == parse_config(CONFIG.decode())


@pytest.mark.parametrize("below", ["", "7.3.0", "lib/modules/7.3.0"])
def test_modules_are_found_below_given_directory(tmp_path: Path, below: str) -> None:
    path = tmp_path / "bzImage"
    path.write_bytes(bzimage("7.3.0"))
    (tmp_path / "m" / below / "kernel").mkdir(parents=True)
    assert resolve(f"{path},modules={tmp_path / 'm'}").modules == tmp_path / "m" / below


def test_bad_path_is_a_usage_error_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "bzImage"
    with pytest.raises(UsageError, match=r"does not exist: a kernel is .* debian:newest"):
        resolve(str(path))
    with pytest.raises(UsageError, match="is a directory"):
        check(str(tmp_path))
    for word in ("debian:", "debian:six", "debian:7", "debian:@arm64"):
        with pytest.raises(UsageError, match="after 'debian:' comes a kernel series"):
            check(word)
    path.write_bytes(b"\x7fELF")
    with pytest.raises(UsageError, match="neither the boot header of an x86 bzImage nor"):
        check(str(path))
    path.write_bytes(bzimage("").replace(b"(builder@example) #1 SMP", b""))
    with pytest.raises(UsageError, match="does not say which release it is"):
        check(str(path))
    path.write_bytes(bzimage("7.3.0"))
    with pytest.raises(UsageError, match="only ',modules=DIR' is known"):
        resolve(f"{path},initrd=x")
    with pytest.raises(UsageError, match=r"no modules of 7\.3\.0 below"):
        resolve(f"{path},modules={tmp_path}")

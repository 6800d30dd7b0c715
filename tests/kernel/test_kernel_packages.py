# SPDX-License-Identifier: GPL-2.0
"""apt sources are parsed; packages arrive signed and intact, through our own apt configuration."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from debian_archive import DebianArchive, SigningKey, signing_key

from damon_tests.kernel.images.apt_sources import (
    Mirror,
    debian_mirror,
    machine_sources,
    parse_deb822,
    parse_one_line,
)
from damon_tests.kernel.images.packages import Archive, ArchiveUnreachable, parse_packages, sha256_of, unpack
from damon_tests.ports import HarnessError, NotSupported

# Sources


def test_one_line_sources_are_parsed() -> None:
    text = """\
# deb http://commented.example/debian bookworm main
deb-src http://src.example/debian bookworm main
deb [arch=amd64 signed-by=/k/a.gpg,/k/b.gpg] http://a.example/debian bookworm main contrib # trailing
   deb   http://b.example/debian/  trixie-backports  main
deb cdrom:[Debian 12]/ bookworm main
nonsense
"""
    first, second, cdrom = parse_one_line(text)
    assert (first.uri, first.suites, first.components) == (
        "http://a.example/debian",
        ("bookworm",),
        ("main", "contrib"),
    )
    assert first.signed_by == ("/k/a.gpg", "/k/b.gpg")
    assert second.uri == "http://b.example/debian/"
    assert second.is_debian
    assert cdrom.uri.startswith("cdrom:")


def test_deb822_sources_are_parsed() -> None:
    text = """\
# A comment
Types: deb deb-src
URIs: http://a.example/debian http://b.example/debian
Suites: trixie trixie-updates
# in between
Components: main
Signed-By: /k/a.gpg

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: trixie
Components: main

Types: deb-src
URIs: http://src.example/debian
Suites: trixie
Components: main

Types: deb
URIs: http://c.example/debian
Suites: sid
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEaBcd
 -----END PGP PUBLIC KEY BLOCK-----
"""
    a, b, c = parse_deb822(text)
    assert (a.uri, b.uri, c.uri) == (
        "http://a.example/debian",
        "http://b.example/debian",
        "http://c.example/debian",
    )
    assert a.suites == ("trixie", "trixie-updates")
    assert a.signed_by == ("/k/a.gpg",)
    assert c.signed_by == ()
    assert c.key_block.strip().startswith("-----BEGIN PGP")
    assert "\n\nmDMEaBcd" in c.key_block


@pytest.mark.parametrize(
    ("line", "debian"),
    [
        ("deb http://m.example/debian bookworm main", True),
        ("deb http://m.example/debian bookworm-backports main", True),
        ("deb http://m.example/debian stable main", True),
        ("deb http://m.example/debian-security bookworm-security main", False),
        ("deb http://m.example/ubuntu noble main universe", False),
        ("deb http://m.example/tool bookworm stable", False),
    ],
)
def test_only_debians_main_archive_is_a_mirror_of_debian(line: str, debian: bool) -> None:
    (source,) = parse_one_line(line)
    assert source.is_debian is debian


def test_mirror_is_read_from_the_machines_sources(tmp_path: Path) -> None:
    etc, keys = tmp_path / "apt", tmp_path / "keyrings"
    (etc / "sources.list.d").mkdir(parents=True)
    (etc / "trusted.gpg.d").mkdir()
    keys.mkdir()
    for path in (
        etc / "trusted.gpg.d" / "own.gpg",
        etc / "trusted.gpg.d" / "readme.txt",
        keys / "debian-archive-trixie-stable.gpg",
        keys / "debian-archive-removed-keys.gpg",
        keys / "other.gpg",
    ):
        path.touch()
    (etc / "sources.list").write_text("deb http://tool.example/apt any main\n")
    (etc / "sources.list.d" / "z.list").write_text("deb http://m.example/debian/ bookworm main\n")
    (etc / "sources.list.d" / "off.list.save").write_text("deb http://saved.example/debian bookworm main\n")
    assert [source.uri for source in machine_sources(etc)] == [
        "http://tool.example/apt",
        "http://m.example/debian/",
    ]
    mirror = debian_mirror(etc=etc, keyring_dir=keys)
    assert mirror is not None
    assert mirror.uri == "http://m.example/debian"
    assert [Path(key).name for key in mirror.keyrings] == ["own.gpg", "debian-archive-trixie-stable.gpg"]


def test_machine_without_debian_sources_has_no_mirror(tmp_path: Path) -> None:
    assert debian_mirror(etc=tmp_path) is None


def test_version_in_several_suites_is_listed_once() -> None:
    stanza = "Package: a\nVersion: 1\nSHA256: ff\nSize: 3\nDepends: b\n"
    (package, other) = parse_packages(
        f"{stanza}\n{stanza}\nPackage: virtual\n\n{stanza.replace(': 1', ': 2')}"
    )
    assert (package.name, package.version, package.size, package.depends) == ("a", "1", 3, "b")
    assert other.version == "2"


# apt


key = signing_key  # a fixture of debian_archive


@pytest.fixture
def debian(tmp_path: Path, key: SigningKey) -> DebianArchive:
    archive = DebianArchive(tmp_path, key)
    archive.add("alpha", "tool", "1:2.0-1", {"usr/bin/tool": b"#!/bin/true\n"}, depends="libtool9")
    archive.add("alpha", "libtool9", "9-1", {"usr/lib/libtool.so.9": b"lib"})
    archive.add("beta", "tool", "1:3.0-1")
    archive.publish({"alpha": "stable"})
    return archive


def test_package_is_downloaded_and_unpacked(tmp_path: Path, debian: DebianArchive) -> None:
    archive = Archive("t", ("alpha", "beta"), tmp_path / "cache", debian.mirror)
    assert archive.names("to") == ["tool"]
    assert archive.versions("tool") == {"alpha": "1:2.0-1", "beta": "1:3.0-1"}
    assert archive.called("stable") == "alpha"
    assert archive.called("testing") is None
    assert sorted(archive.closure(["tool"], "alpha")) == [("libtool9", "9-1"), ("tool", "1:2.0-1")]
    package = next(p for p in archive.packages(["tool"]) if p.version == "1:2.0-1")
    (deb,) = archive.fetch([package])
    assert sha256_of(deb) == package.sha256
    unpack([deb], tmp_path / "tree")
    assert (tmp_path / "tree/usr/bin/tool").read_bytes() == b"#!/bin/true\n"
    assert archive.notes == []


def test_a_damaged_cached_package_is_downloaded_again(tmp_path: Path, debian: DebianArchive) -> None:
    archive = Archive("t", ("alpha",), tmp_path / "cache", debian.mirror)
    (package,) = archive.packages(["libtool9"])
    (deb,) = archive.fetch([package])
    deb.write_bytes(b"rot")
    assert sha256_of(archive.fetch([package])[0]) == package.sha256


def test_a_package_changed_on_the_mirror_is_refused(tmp_path: Path, debian: DebianArchive) -> None:
    archive = Archive("t", ("alpha",), tmp_path / "cache", debian.mirror)
    (package,) = archive.packages(["libtool9"])
    deb = next((debian.root / "pool").glob("libtool9_*"))
    deb.write_bytes(deb.read_bytes()[:-1] + b"x")
    with pytest.raises(HarnessError, match="libtool9 9-1 could not be downloaded"):
        archive.fetch([package])
    assert list((tmp_path / "cache" / "debs").glob("*.deb")) == []


def test_lists_signed_by_unknown_key_are_refused(tmp_path: Path, debian: DebianArchive) -> None:
    stranger = SigningKey(tmp_path)
    try:
        mirror = Mirror(debian.mirror.uri, (str(stranger.keyring),))
        with pytest.raises(ArchiveUnreachable, match="gave no package lists"):
            Archive("t", ("alpha",), tmp_path / "cache", mirror).names("tool")
    finally:
        stranger.close()


def test_unsigned_lists_are_refused(tmp_path: Path, debian: DebianArchive) -> None:
    signed = debian.root / "dists/alpha/InRelease"
    (signed.parent / "Release").write_text(signed.read_text().split("\n\n")[1])
    signed.unlink()
    with pytest.raises(ArchiveUnreachable, match="gave no package lists"):
        Archive("t", ("alpha",), tmp_path / "cache", debian.mirror).names("tool")


def test_key_block_inside_the_source_is_used(tmp_path: Path, debian: DebianArchive, key: SigningKey) -> None:
    mirror = Mirror(debian.mirror.uri, (), key.armoured)
    assert Archive("t", ("alpha",), tmp_path / "cache", mirror).names("tool") == ["tool"]


def test_missing_suite_is_reported_once(tmp_path: Path, debian: DebianArchive) -> None:
    archive = Archive("t", ("alpha", "gamma"), tmp_path / "cache", debian.mirror)
    assert archive.versions("tool") == {"alpha": "1:2.0-1"}
    assert "gamma" in archive.notes[0]
    later = Archive("t", ("alpha", "gamma"), tmp_path / "cache", debian.mirror)
    assert later.versions("tool") == {"alpha": "1:2.0-1"}
    assert later.notes == []


def test_old_lists_are_used_when_mirror_is_unreachable(tmp_path: Path, debian: DebianArchive) -> None:
    assert Archive("t", ("alpha",), tmp_path / "cache", debian.mirror).names("tool") == ["tool"]
    debian.root.rename(tmp_path / "away")
    os.utime(tmp_path / "cache/apt/t/updated", (0, 0))
    archive = Archive("t", ("alpha",), tmp_path / "cache", debian.mirror)
    assert archive.names("tool") == ["tool"]
    assert "not all package lists could be renewed" in archive.notes[0]


def test_machine_without_apt_is_not_supported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotSupported, match="give the path of vmlinuz"):
        Archive("t", ("alpha",), tmp_path / "cache").names("linux")


def test_machine_without_a_debian_mirror_is_not_supported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("damon_tests.kernel.images.packages.debian_mirror", lambda: None)
    with pytest.raises(NotSupported, match="name no Debian mirror"):
        Archive("t", ("alpha",), tmp_path / "cache").names("linux")

# SPDX-License-Identifier: GPL-2.0
"""Kernel source of a series comes from Debian's linux-source package, unpacked once."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from debian_archive import DebianArchive, SigningKey, signing_key

from damon_tests.kernel.images import packages
from damon_tests.kernel.images.debian_source import linux_source
from damon_tests.ports import NotSupported, UsageError

key = signing_key  # a fixture of debian_archive


def source_of(version: str) -> bytes:
    """Return a linux-source-7.3.tar.xz with one file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as archive:
        entry = tarfile.TarInfo("linux-source-7.3/Makefile")
        entry.size = len(version)
        archive.addfile(entry, io.BytesIO(version.encode()))
    return buffer.getvalue()


@pytest.fixture
def debian(tmp_path: Path, key: SigningKey, monkeypatch: pytest.MonkeyPatch) -> DebianArchive:
    archive = DebianArchive(tmp_path, key)
    for suite, version in (("experimental", "7.3~rc7-1~exp1"), ("trixie-backports", "7.3.4-1~bpo13+1")):
        files = {"usr/src/linux-source-7.3.tar.xz": source_of(version)}
        archive.add(suite, "linux-source-7.3", version, files)
    archive.publish()
    monkeypatch.setattr(packages, "debian_mirror", lambda: archive.mirror)
    return archive


def test_newest_release_of_the_series_is_unpacked_once(tmp_path: Path, debian: DebianArchive) -> None:
    tree = linux_source("debian:7.3", tmp_path / "cache")
    assert (tree / "Makefile").read_text() == "7.3.4-1~bpo13+1"
    (tree / "Makefile").write_text("changed by its user")
    assert linux_source("debian:7.3", tmp_path / "cache") == tree
    assert (tree / "Makefile").read_text() == "changed by its user"
    assert [p.name for p in tree.parent.iterdir() if p.is_dir()] == [tree.name]


def test_series_without_source_and_other_words_are_refused(tmp_path: Path, debian: DebianArchive) -> None:
    with pytest.raises(NotSupported, match=r"no linux-source-6\.16 now"):
        linux_source("debian:6.16", tmp_path / "cache")
    for word in ("debian:stable", "debian:", "7.3"):
        with pytest.raises(UsageError, match="by series"):
            linux_source(word, tmp_path / "cache")

# SPDX-License-Identifier: GPL-2.0
"""A small signed Debian archive in a directory: tests run the real apt on it, without a network."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from damon_tests.kernel.images.apt_sources import Mirror

_TOOLS = ("apt-get", "apt-cache", "dpkg-deb", "gpg")


class SigningKey:
    """A throw-away OpenPGP key. Its home has a short path, because gpg makes a socket in it."""

    def __init__(self, directory: Path) -> None:
        if missing := [tool for tool in _TOOLS if shutil.which(tool) is None]:
            pytest.skip(f"needs {', '.join(missing)}")
        self._home = tempfile.mkdtemp(prefix="dtk-")
        self._gpg("--passphrase", "", "--quick-gen-key", "Test Archive <test@example.org>", "ed25519", "sign")
        self.keyring = directory / "archive-keyring.gpg"
        self.keyring.write_bytes(self._gpg("--export"))
        self.armoured = self._gpg("--armor", "--export").decode()

    def clearsign(self, text: str) -> bytes:
        return self._gpg("--clearsign", stdin=text.encode())

    def close(self) -> None:
        environment = {**os.environ, "GNUPGHOME": self._home}
        subprocess.run(["gpgconf", "--kill", "all"], env=environment, check=False)
        shutil.rmtree(self._home, ignore_errors=True)

    def _gpg(self, *arguments: str, stdin: bytes = b"") -> bytes:
        command = ["gpg", "--homedir", self._home, "--batch", "--quiet", "--pinentry-mode", "loopback"]
        return subprocess.run([*command, *arguments], input=stdin, capture_output=True, check=True).stdout


@pytest.fixture(scope="module")
def signing_key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SigningKey]:
    key = SigningKey(tmp_path_factory.mktemp("key"))
    yield key
    key.close()


class DebianArchive:
    """``add`` packages to suites, then ``publish``; ``mirror`` has its URI and signing key."""

    def __init__(self, directory: Path, key: SigningKey) -> None:
        self.root = directory / "archive"
        self._key = key
        self._stanzas: dict[str, list[str]] = {}
        self.mirror = Mirror(f"copy:{self.root}", (str(key.keyring),))

    def add(
        self, suite: str, name: str, version: str, files: dict[str, bytes] | None = None, depends: str = ""
    ) -> Path:
        tree = self.root / "build" / f"{name}_{version}"
        control = f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: T <t@example.org>\n"
        control += (f"Depends: {depends}\n" if depends else "") + "Description: test\n"
        (tree / "DEBIAN").mkdir(parents=True, exist_ok=True)
        (tree / "DEBIAN" / "control").write_text(control)
        for path, data in (files or {}).items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(data)
            (tree / path).chmod(0o755)
        pool = self.root / "pool"
        pool.mkdir(exist_ok=True)
        deb = pool / f"{name}_{version.replace(':', '.')}_amd64.deb"
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, deb],
            check=True,
            capture_output=True,
        )
        data = deb.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        stanza = control + f"Filename: pool/{deb.name}\nSize: {len(data)}\nSHA256: {digest}\n"
        self._stanzas.setdefault(suite, []).append(stanza)
        return deb

    def publish(self, names: dict[str, str] | None = None) -> None:
        """Write and sign the lists; ``names`` {suite: the name in its Release file}."""
        for suite, stanzas in self._stanzas.items():
            dist = self.root / "dists" / suite
            lists = dist / "main" / "binary-amd64"
            lists.mkdir(parents=True, exist_ok=True)
            packages = "\n".join(stanzas).encode()
            (lists / "Packages").write_bytes(packages)
            digest = hashlib.sha256(packages).hexdigest()
            release = (
                f"Origin: Debian\nSuite: {(names or {}).get(suite, suite)}\nCodename: {suite}\n"
                "Date: Sat, 01 Mar 2025 00:00:00 UTC\nArchitectures: amd64\nComponents: main\n"
                f"SHA256:\n {digest} {len(packages)} main/binary-amd64/Packages\n"
            )
            (dist / "InRelease").write_bytes(self._key.clearsign(release))

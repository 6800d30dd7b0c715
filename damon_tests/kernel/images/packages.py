# SPDX-License-Identifier: GPL-2.0
"""Debian packages without installing them: an apt configuration of our own.

Own sources, lists, cache and state directories below the project's cache directory; the
machine's mirror and keyrings are only read. apt checks the signatures of the lists and
the hashes of what it downloads; the hash is checked again before a package is unpacked.
Nobody needs to be root, and nothing of the machine's apt or dpkg changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from damon_tests import bundle
from damon_tests.kernel.images.apt_sources import Mirror, debian_mirror
from damon_tests.ports import DamonTestsError, HarnessError, NotSupported

log = logging.getLogger(__name__)

LISTS_MAX_AGE_S = 12 * 3600
"""How old package lists may get before the mirror is asked again."""

_COMMAND_TIMEOUT_S = 900


class ArchiveUnreachable(HarnessError):
    """The mirror did not answer, or does not have what was asked for any more."""


@dataclass(frozen=True)
class Package:
    """One version of a package, as the archive's signed lists describe it."""

    name: str
    version: str
    sha256: str
    size: int
    depends: str = ""


@contextlib.contextmanager
def using(cache: Path) -> Iterator[None]:
    """Within, a cache that cannot be written or is full is a HarnessError with the way out."""
    try:
        yield
    except OSError as error:
        if isinstance(error, DamonTestsError):
            raise
        raise HarnessError(
            f"the cache {cache} cannot be used: {error}; DAMON_TESTS_CACHE names another directory"
        ) from error


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def run_tool(argv: Sequence[str | Path], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a tool to its end with plain English output; its status is the caller's to judge."""
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        return subprocess.run(
            [str(word) for word in argv],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_COMMAND_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HarnessError(f"could not run {argv[0]}: {error}") from error


class Archive:
    """Some suites of the machine's Debian mirror.

    ``name`` is the directory of the configuration: archives with different suites are
    apart. ``notes`` collects what the user should know (lists that could not be renewed).
    """

    def __init__(
        self, name: str, suites: Sequence[str], cache: Path | None = None, mirror: Mirror | None = None
    ) -> None:
        self.suites = tuple(suites)
        self.notes: list[str] = []
        self._cache = cache or bundle.cache_dir()
        self._dir = self._cache / "apt" / name
        self._mirror = mirror
        self._ready = False

    # What the archive has

    def names(self, prefix: str) -> list[str]:
        """Package names that begin with ``prefix``, sorted; also names only referred to."""
        return sorted(set(self._apt_cache("pkgnames", prefix).split()))

    def packages(self, names: Sequence[str]) -> list[Package]:
        """Every version of these packages that can be downloaded; unknown names are left out."""
        if not names:
            return []
        return parse_packages(self._apt_cache("show", *names))

    def versions(self, name: str) -> dict[str, str]:
        """{suite: version} of one package, suites named as they were asked for."""
        found: dict[str, str] = {}
        for line in self._apt_cache("madison", name).splitlines():
            fields = [field.strip() for field in line.split("|")]
            if len(fields) == 3 and len(words := fields[2].split()) >= 2:
                found.setdefault(words[1].rpartition("/")[0], fields[1])
        return found

    def called(self, alias: str) -> str | None:
        """Which of our suites is ``alias`` now, such as "stable", by their signed Release files."""
        self._prepare()
        for suite in self.suites:
            for release in (self._dir / "lists").glob(f"*_dists_{suite}_InRelease"):
                if re.search(rf"^Suite: {alias}$", release.read_text(errors="replace"), re.MULTILINE):
                    return suite
        return None

    def closure(self, names: Sequence[str], suite: str) -> list[tuple[str, str]]:
        """(name, version) of everything that ``names`` from ``suite`` need, themselves included."""
        self._prepare()
        wanted = [f"{name}/{suite}" for name in names]
        options = ("-s", "-y", "--no-install-recommends", "-t", suite)
        result = self._apt("apt-get", *options, "install", *wanted)
        if result.returncode:
            raise ArchiveUnreachable(
                f"apt cannot work out what {', '.join(names)} from {suite} need: {_last_lines(result.stderr)}"
            )
        return re.findall(r"^Inst (\S+) \((\S+) ", result.stdout, re.MULTILINE)

    # Getting it

    def fetch(self, packages: Sequence[Package]) -> list[Path]:
        """The .deb files, downloaded unless the cache has them; their hashes are checked either way."""
        debs = self._cache / "debs"
        debs.mkdir(parents=True, exist_ok=True)
        kept = {package: debs / _file_name(package) for package in packages}
        with FileLock(debs / ".lock"):
            missing = [package for package in packages if not _intact(package, kept[package])]
            if missing:
                self._download(missing, kept)
        return list(kept.values())

    def _download(self, packages: Sequence[Package], kept: Mapping[Package, Path]) -> None:
        self._prepare()
        names = ", ".join(f"{package.name} {package.version}" for package in packages)
        log.info("downloading %s (%.1f MB)", names, sum(package.size for package in packages) / 1e6)
        directory = Path(tempfile.mkdtemp(dir=self._cache / "debs", prefix=".get-"))
        try:
            wanted = [f"{package.name}={package.version}" for package in packages]
            result = self._apt("apt-get", "-q", "download", *wanted, cwd=directory)
            found = {sha256_of(path): path for path in directory.glob("*.deb")}
            for package in packages:
                if package.sha256 not in found:
                    raise ArchiveUnreachable(
                        f"{package.name} {package.version} could not be downloaded as the archive's list"
                        f" describes it: {_last_lines(result.stderr)}"
                    )
                found[package.sha256].replace(kept[package])
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    # The configuration

    def refresh(self, force: bool = False) -> None:
        """Renew the package lists unless they are young; old lists are used when that fails."""
        with FileLock(self._dir.parent / f".{self._dir.name}.lock"):
            stamp = self._dir / "updated"
            if not force and stamp.exists() and time.time() - stamp.stat().st_mtime < LISTS_MAX_AGE_S:
                return
            log.info("asking the Debian mirror for its package lists (%s)", ", ".join(self.suites))
            result = self._apt("apt-get", "-q", "update")
            have = [suite for suite in self.suites if self._has_lists(suite)]
            if not have:
                raise ArchiveUnreachable(
                    f"the Debian mirror of this machine gave no package lists: {_last_lines(result.stderr)}"
                )
            if re.search(r"^(Get|Hit):", result.stdout, re.MULTILINE):
                # It answered; a suite that it lacks must not send us there for every question.
                stamp.touch()
            if result.returncode or re.search(r"^[WE]:", result.stderr, re.MULTILINE):
                self.notes.append(f"not all package lists could be renewed: {_last_lines(result.stderr)}")

    def _has_lists(self, suite: str) -> bool:
        return any((self._dir / "lists").glob(f"*_dists_{suite}_*_Packages*"))

    def _prepare(self) -> None:
        if self._ready:
            return
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            raise NotSupported(
                "this machine has no apt",
                remedy="download and unpack the packages elsewhere (linux-image-*-cloud-amd64, or"
                " linux-binary-* and linux-modules-* of one version) and give the path of vmlinuz",
            )
        mirror = self._mirror or debian_mirror()
        if mirror is None:
            raise NotSupported(
                "the apt sources of this machine name no Debian mirror",
                remedy="add one to /etc/apt/sources.list.d, or give the path of a kernel image",
            )
        self._write_configuration(mirror)
        self._ready = True
        try:
            self.refresh()
        except BaseException:
            self._ready = False
            raise

    def _write_configuration(self, mirror: Mirror) -> None:
        for sub in ("lists/partial", "archives/partial"):
            (self._dir / sub).mkdir(parents=True, exist_ok=True)
        keyrings = list(mirror.keyrings)
        if mirror.key_block:
            (self._dir / "machine.asc").write_text(mirror.key_block.lstrip() + "\n")
            keyrings.append(str(self._dir / "machine.asc"))
        sources = (
            f"Types: deb\nURIs: {mirror.uri}\nSuites: {' '.join(self.suites)}\n"
            f"Components: main\nArchitectures: amd64\nSigned-By: {' '.join(keyrings)}\n"
        )
        path = self._dir / "debian.sources"
        if not path.exists() or path.read_text() != sources:
            path.write_text(sources)
            (self._dir / "updated").unlink(missing_ok=True)
        if not (self._dir / "status").exists():  # a newer one makes apt build its cache again
            (self._dir / "status").touch()
        (self._dir / "apt.conf").write_text(_apt_conf(self._dir))

    def _apt(self, *command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return run_tool([command[0], "-c", self._dir / "apt.conf", *command[1:]], cwd)

    def _apt_cache(self, *command: str) -> str:
        self._prepare()
        return self._apt("apt-cache", *command).stdout


def _file_name(package: Package) -> str:
    version = package.version.replace(":", "%3a").replace("/", "_")
    return f"{package.name}_{version}_{package.sha256[:12]}.deb"


def _intact(package: Package, deb: Path) -> bool:
    """Whether the cache has the package; a damaged file is removed."""
    if not deb.is_file():
        return False
    if sha256_of(deb) == package.sha256:
        return True
    log.warning("%s in the cache is damaged; downloading it again", deb.name)
    deb.unlink()
    return False


def _apt_conf(directory: Path) -> str:
    """Read after the machine's configuration, so that its proxies stay and its hooks go."""
    return f"""\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Install-Pkgs;
Dir::Etc::sourcelist "{directory}/debian.sources";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "{directory}";
Dir::State::lists "{directory}/lists";
Dir::State::status "{directory}/status";
Dir::State::extended_states "{directory}/extended_states";
Dir::Cache "{directory}";
Dir::Cache::archives "{directory}/archives";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Default-Release "";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::AllowReleaseInfoChange "true";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
"""


def parse_packages(text: str) -> list[Package]:
    """``apt-cache show`` output → packages; the same version from two suites comes once."""
    found: dict[tuple[str, str], Package] = {}
    for paragraph in text.split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z0-9-]+): (.*)$", paragraph, re.MULTILINE))
        if {"Package", "Version", "SHA256"} <= fields.keys():
            package = Package(
                fields["Package"],
                fields["Version"],
                fields["SHA256"],
                int(fields.get("Size", "0")),
                fields.get("Depends", ""),
            )
            found.setdefault((package.name, package.version), package)
    return list(found.values())


def unpack(debs: Sequence[Path], into: Path) -> None:
    """Unpack packages over each other into a directory, as ``dpkg-deb -x`` does; no scripts run."""
    into.mkdir(parents=True, exist_ok=True)
    for deb in debs:
        result = run_tool(["dpkg-deb", "-x", deb, into])
        if result.returncode:
            raise HarnessError(f"{deb.name} could not be unpacked: {_last_lines(result.stderr)}")


def _last_lines(text: str, count: int = 4) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " / ".join(lines[-count:]) or "no reason given"

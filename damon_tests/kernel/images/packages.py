# SPDX-License-Identifier: GPL-2.0
"""Download Debian packages without installing them, with an apt configuration of our own.

Sources, lists, cache and state are below the project's cache directory; the machine's mirror and
keyrings are only read. apt checks the signatures of the lists and the hashes of its downloads;
we check the hash again before we unpack a package. No root is needed, and the machine's apt and
dpkg do not change.
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
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from damon_tests import bundle
from damon_tests.kernel.images.apt_sources import Mirror, debian_mirror
from damon_tests.kernel.images.arch import X86_64
from damon_tests.ports import DamonTestsError, HarnessError, NotSupported

log = logging.getLogger(__name__)

LISTS_MAX_AGE_S = 12 * 3600
"""Maximum age of package lists; older ones are renewed from the mirror."""

_COMMAND_TIMEOUT_S = 900
_PROGRESS_EVERY_S = 5.0


class ArchiveUnreachable(HarnessError):
    """The mirror did not answer, or no longer has the package."""


@dataclass(frozen=True)
class Package:
    """A version of a package, as the archive's signed lists describe it."""

    name: str
    version: str
    sha256: str
    size: int
    depends: str = ""


@contextlib.contextmanager
def using(cache: Path) -> Iterator[None]:
    """Turn an OSError of the cache (not writable, full) into a HarnessError that names the remedy."""
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
    """Run a tool to its end, with untranslated output; the caller checks its exit status."""
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
    """Some suites of the machine's Debian mirror, for one of Debian's architectures.

    ``name`` is the directory of the configuration: archives with different suites or architectures need
    different names. ``notes`` collects what the user should know (lists that could not be renewed).
    """

    def __init__(
        self,
        name: str,
        suites: Sequence[str],
        cache: Path | None = None,
        mirror: Mirror | None = None,
        architecture: str = X86_64.debian,
    ) -> None:
        self.suites = tuple(suites)
        self._architecture = architecture
        self.notes: list[str] = []
        self._cache = cache or bundle.cache_dir()
        self._dir = self._cache / "apt" / name
        self._mirror = mirror
        self._ready = False

    # Queries

    def names(self, prefix: str) -> list[str]:
        """Return the package names that begin with ``prefix``, sorted, including names only referred to."""
        return sorted(set(self._apt_cache("pkgnames", prefix).split()))

    def packages(self, names: Sequence[str]) -> list[Package]:
        """Return every version of these packages that can be downloaded; skip unknown names."""
        if not names:
            return []
        return parse_packages(self._apt_cache("show", *names))

    def versions(self, name: str) -> dict[str, str]:
        """Return {suite: version} of a package, with the suite names of ``suites``."""
        by_suite: dict[str, str] = {}
        for line in self._apt_cache("madison", name).splitlines():
            fields = [field.strip() for field in line.split("|")]
            if len(fields) == 3 and len(words := fields[2].split()) >= 2:
                by_suite.setdefault(words[1].rpartition("/")[0], fields[1])
        return by_suite

    def called(self, alias: str) -> str | None:
        """Return which of our suites ``alias`` ("stable") means now, by their signed Release files."""
        self._prepare()
        for suite in self.suites:
            for release in (self._dir / "lists").glob(f"*_dists_{suite}_InRelease"):
                if re.search(rf"^Suite: {alias}$", release.read_text(errors="replace"), re.MULTILINE):
                    return suite
        return None

    def closure(self, names: Sequence[str], suite: str) -> list[tuple[str, str]]:
        """Return (name, version) of ``names`` from ``suite`` and all their dependencies."""
        self._prepare()
        wanted = [f"{name}/{suite}" for name in names]
        options = ("-s", "-y", "--no-install-recommends", "-t", suite)
        result = self._apt("apt-get", *options, "install", *wanted)
        if result.returncode:
            raise ArchiveUnreachable(
                f"apt cannot work out what {', '.join(names)} from {suite} need: {_last_lines(result.stderr)}"
            )
        return re.findall(r"^Inst (\S+) \((\S+) ", result.stdout, re.MULTILINE)

    # Downloads

    def fetch(self, packages: Sequence[Package]) -> list[Path]:
        """Return the .deb files; download those that the cache lacks, check the hashes of all."""
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
            with _progress(directory, sum(package.size for package in packages)):
                result = self._apt("apt-get", "-q", "download", *wanted, cwd=directory)
            downloaded = {sha256_of(path): path for path in directory.glob("*.deb")}
            for package in packages:
                if package.sha256 not in downloaded:
                    raise ArchiveUnreachable(
                        f"{package.name} {package.version} could not be downloaded as the archive's list"
                        f" describes it: {_last_lines(result.stderr)}"
                    )
                downloaded[package.sha256].replace(kept[package])
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    # Configuration

    def refresh(self, force: bool = False) -> None:
        """Renew old package lists; keep using the old ones when that fails."""
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
                # The mirror answered; a suite that it lacks must not cause a new request for every query.
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
            f"Components: main\nArchitectures: {self._architecture}\nSigned-By: {' '.join(keyrings)}\n"
        )
        path = self._dir / "debian.sources"
        if not path.exists() or path.read_text() != sources:
            path.write_text(sources)
            (self._dir / "updated").unlink(missing_ok=True)
        if not (self._dir / "status").exists():  # a newer one makes apt build its cache again
            (self._dir / "status").touch()
        (self._dir / "apt.conf").write_text(_apt_conf(self._dir, self._architecture))

    def _apt(self, *command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return run_tool([command[0], "-c", self._dir / "apt.conf", *command[1:]], cwd)

    def _apt_cache(self, *command: str) -> str:
        self._prepare()
        return self._apt("apt-cache", *command).stdout


@contextlib.contextmanager
def _progress(directory: Path, size: int) -> Iterator[None]:
    """Log every few seconds how much of a download is there. ``size``: bytes in all."""
    ended = threading.Event()

    def follow() -> None:
        while not ended.wait(_PROGRESS_EVERY_S):
            with contextlib.suppress(OSError):
                there = sum(path.stat().st_size for path in directory.iterdir())
                log.info("downloaded %.1f of %.1f MB", there / 1e6, size / 1e6)

    thread = threading.Thread(target=follow, daemon=True, name="download")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _file_name(package: Package) -> str:
    version = package.version.replace(":", "%3a").replace("/", "_")
    return f"{package.name}_{version}_{package.sha256[:12]}.deb"


def _intact(package: Package, deb: Path) -> bool:
    """Return whether the cache has the package; remove a damaged file."""
    if not deb.is_file():
        return False
    if sha256_of(deb) == package.sha256:
        return True
    log.warning("%s in the cache is damaged; downloading it again", deb.name)
    deb.unlink()
    return False


def _apt_conf(directory: Path, architecture: str) -> str:
    """Return the apt configuration. apt reads it after the machine's: proxies stay, hooks are cleared."""
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
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
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
    """Parse the output of ``apt-cache show``; return a version that is in two suites once."""
    packages: dict[tuple[str, str], Package] = {}
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
            packages.setdefault((package.name, package.version), package)
    return list(packages.values())


def unpack(debs: Sequence[Path], into: Path) -> None:
    """Unpack packages into one directory with ``dpkg-deb -x``; run no maintainer scripts."""
    into.mkdir(parents=True, exist_ok=True)
    for deb in debs:
        result = run_tool(["dpkg-deb", "-x", deb, into])
        if result.returncode:
            raise HarnessError(f"{deb.name} could not be unpacked: {_last_lines(result.stderr)}")


def _last_lines(text: str, count: int = 4) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " / ".join(lines[-count:]) or "no reason given"

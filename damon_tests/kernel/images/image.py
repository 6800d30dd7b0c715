# SPDX-License-Identifier: GPL-2.0
"""Choose the kernel to boot: a path, or the newest image of a series from Debian's archive."""

from __future__ import annotations

import json
import logging
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from damon_tests import bundle
from damon_tests.kernel.images import boot_header
from damon_tests.kernel.images.arch import DEFAULT_FLAVOUR, FLAVOURS, X86_64, Arch, Flavour, flavour
from damon_tests.kernel.images.ikconfig import embedded_config
from damon_tests.kernel.images.packages import Archive, ArchiveUnreachable, Package, sha256_of, unpack, using
from damon_tests.ports import HarnessError, NotSupported, UsageError

log = logging.getLogger(__name__)

SUITES = ("bookworm-backports", "trixie", "trixie-backports", "forky", "sid", "experimental")
"""Suites to search for kernels: code names, because some mirrors have stale aliases."""

KERNELS = "reference[:LEVEL], host, debian:SERIES, debian:stable, debian:newest, or the path of an image"
"""The values of ``--kernel``, for messages."""

MODULES_ARE_IN = ("lib/modules", "usr/lib/modules")


@dataclass(frozen=True)
class KernelImage:
    """A kernel that QEMU can boot.

    ``spec`` is what the user asked for, ``release`` what ``uname -r`` will print. ``modules``
    is the directory that has the .ko files below it, or None. ``config`` maps CONFIG_ names to values
    ("y", "m", text), None when unknown. ``packages`` are (name, version, sha256) of the packages it
    was unpacked from. ``notes`` says how it was obtained when that is unusual.
    """

    spec: str
    release: str
    vmlinuz: Path
    modules: Path | None
    config: Mapping[str, str] | None = field(compare=False)
    packages: tuple[tuple[str, str, str], ...] = ()
    sha256: str = ""
    notes: tuple[str, ...] = field(default=(), compare=False)
    arch: Arch = X86_64

    def require_damon(self) -> None:
        """Raise NotSupported when the configuration leaves out DAMON's sysfs files."""
        if self.config is None or self.config.get("CONFIG_DAMON_SYSFS") == "y":
            return
        raise NotSupported(
            f"the kernel {self.release} is built without DAMON (CONFIG_DAMON_SYSFS is not set)",
            remedy="take an image that has it, such as debian:stable (Debian's have it from 6.12 on)",
        )


def resolve(spec: str, cache: Path | None = None) -> KernelImage:
    """Return the image that ``spec`` names; download it if needed.

    ``debian:7.3`` is the newest image of that series, ``debian:stable`` that of Debian's
    stable release, ``debian:newest`` the newest that is no release candidate; ``@arm64`` or ``@rt``
    after it asks for another flavour (``arch.FLAVOURS``). Anything else is the path of a bzImage or an
    arm64 Image, with ``,modules=DIR`` after it for its modules. Without network,
    this returns the newest cached image that fits, and ``notes`` says so.
    Raises UsageError for an invalid spec, NotSupported when no image fits.
    """
    if spec.startswith("debian:"):
        cache = cache or bundle.cache_dir()
        with using(cache):
            return _resolve_debian(spec, cache)
    return _resolve_path(spec)


def check(spec: str) -> None:
    """Raise UsageError for an invalid spec; asks no archive, downloads nothing."""
    if spec.startswith("debian:"):
        _wanted(spec)
    else:
        boot_header.read(_path_of(spec)[0])


def page_bytes(spec: str) -> int:
    """Return the page size of the kernel that ``spec`` names; asks no archive. Raises as ``check``."""
    if spec.startswith("debian:"):
        return flavour(spec).page_bytes
    return boot_header.read(_path_of(spec)[0]).page_bytes


def word_bits(spec: str) -> int:
    """Return the width of ``unsigned long`` in the kernel that ``spec`` names; as ``page_bytes``."""
    if spec.startswith("debian:"):
        return flavour(spec).arch.word_bits
    return boot_header.read(_path_of(spec)[0]).arch.word_bits


# Debian's archive


@dataclass(frozen=True)
class DebianKernel:
    """A kernel of the archive: the packages that together make an image."""

    release: str
    version: str
    packages: tuple[Package, ...]

    @property
    def key(self) -> tuple[tuple[int, ...], float, int, int, str]:
        """Return the sort key: kernel version, candidates before releases, then Debian's revision."""
        numbers, candidate, revision = parse_version(self.version)
        return numbers, candidate, revision, len(self.packages), self.version

    @property
    def is_candidate(self) -> bool:
        return self.key[1] < float("inf")


def parse_version(version: str) -> tuple[tuple[int, ...], float, int]:
    """Parse ``7.3~rc7-1~exp1`` into ((7, 3), 7, 1): kernel version, candidate (inf: none), revision."""
    match = re.match(r"^(\d+(?:\.\d+)*)(?:~rc(\d+))?(?:-(\d+))?", version)
    if match is None:
        raise ValueError(f"not a kernel package version: {version!r}")
    numbers = tuple(int(n) for n in match[1].split("."))
    return numbers, float(match[2] or "inf"), int(match[3] or 0)


_PACKAGE = re.compile(r"^linux-(image|binary|modules|base)-(\d\S*)$")


def _is_of(name: str, built: Flavour) -> bool:
    match = _PACKAGE.match(name)
    return match is not None and built.owns(match[2])


def group_kernels(packages: Sequence[Package], built: Flavour = DEFAULT_FLAVOUR) -> list[DebianKernel]:
    """Return the bootable kernels of one flavour among ``packages``, oldest first.

    Until 6.18, ``linux-image-R`` has everything (6.18 keeps its config in ``linux-base-R``); later
    kernels have vmlinuz in ``linux-binary-R``, and their image package is empty. A kernel whose
    binary package alone is left in the archive comes without modules and config.
    """
    by_release: dict[tuple[str, str], dict[str, Package]] = {}
    for package in packages:
        if _is_of(package.name, built) and (match := _PACKAGE.match(package.name)):
            by_release.setdefault((match[2], package.version), {})[match[1]] = package
    kernels = []
    for (release, version), parts in by_release.items():
        main = parts.get("binary") or parts.get("image")
        if main is None or (main.name.startswith("linux-image") and "linux-binary-" in main.depends):
            continue
        extra = [parts[kind] for kind in ("modules", "base") if kind in parts]
        kernels.append(DebianKernel(release, version, (main, *extra)))
    return sorted(kernels, key=lambda kernel: kernel.key)


def choose(kernels: Sequence[DebianKernel], wanted: str) -> DebianKernel | None:
    """Return the newest of ``kernels`` (oldest first) that fits ``wanted`` (a series or "newest").

    A release candidate fits a series that has no release, but never "newest".
    """
    if wanted == "newest":
        fits = [kernel for kernel in kernels if not kernel.is_candidate]
    else:
        series = tuple(int(n) for n in wanted.split("."))
        fits = [k for k in kernels if parse_version(k.version)[0][: len(series)] == series]
        fits = [kernel for kernel in fits if not kernel.is_candidate] or fits
    return fits[-1] if fits else None


def _wanted(spec: str) -> str:
    """Return what follows ``debian:`` in ``spec``, without the flavour."""
    wanted = spec.removeprefix("debian:").partition("@")[0]
    flavour(spec)
    if wanted not in ("stable", "newest") and not re.fullmatch(r"\d+(\.\d+)+", wanted):
        raise UsageError(
            f"{spec!r}: after 'debian:' comes a kernel series such as 6.12, or 'stable', or 'newest'"
        )
    return wanted


def _resolve_debian(spec: str, cache: Path) -> KernelImage:
    wanted, built = _wanted(spec), flavour(spec)
    archive = archive_of(built.arch, cache)
    try:
        return _from_archive(spec, wanted, archive, cache)
    except (ArchiveUnreachable, NotSupported) as error:
        cached = _from_cache(spec, wanted, cache, str(error))
        if cached is None:
            raise
        return cached


def archive_of(arch: Arch, cache: Path) -> Archive:
    """Return the archive of one architecture, with lists in a directory of their own."""
    name = "kernels" if arch is X86_64 else f"kernels-{arch.debian}"
    return Archive(name, SUITES, cache, architecture=arch.debian)


def _from_archive(spec: str, wanted: str, archive: Archive, cache: Path) -> KernelImage:
    built = flavour(spec)
    kernel = _find(wanted, archive, built)
    if kernel is None:
        raise NotSupported(
            f"Debian's archive has no {built.suffix} kernel {wanted} now",
            remedy=f"it has {', '.join(_series(archive, built)) or 'none'}; debian:stable and debian:newest"
            " always exist; archives drop old series",
        )
    try:
        return _image_of(spec, kernel, archive, cache, aliases=(wanted,))
    except ArchiveUnreachable:  # the lists may be older than the archive's last clean-up
        archive.refresh(force=True)
        kernel = _find(wanted, archive, built)
        if kernel is None:
            raise
        return _image_of(spec, kernel, archive, cache, aliases=(wanted,))


def _find(wanted: str, archive: Archive, built: Flavour) -> DebianKernel | None:
    if wanted == "stable":
        meta = f"linux-image-{built.suffix}"
        version = archive.versions(meta).get(archive.called("stable") or "")
        depends = "".join(p.depends for p in archive.packages([meta]) if p.version == version)
        names = re.findall(rf"linux-image-(\d\S*-{built.suffix})", depends)
        kernels = group_kernels(archive.packages([f"{kind}-{r}" for r in names for kind in _KINDS]), built)
        return kernels[-1] if kernels else None
    names = [name for kind in _KINDS for name in archive.names(kind) if _is_of(name, built)]
    return choose(group_kernels(archive.packages(names), built), wanted)


def _series(archive: Archive, built: Flavour) -> list[str]:
    """Return the series that the archive has kernels of, oldest first."""
    names = [name for kind in _KINDS for name in archive.names(kind) if _is_of(name, built)]
    kernels = group_kernels(archive.packages(names), built)
    numbers = {parse_version(kernel.version)[0][:2] for kernel in kernels}
    return [".".join(map(str, n)) for n in sorted(numbers)]


_KINDS = ("linux-image", "linux-binary", "linux-modules", "linux-base")


def _image_of(
    spec: str, kernel: DebianKernel, archive: Archive, cache: Path, aliases: Sequence[str]
) -> KernelImage:
    """Return the unpacked image; unpack it unless the cache has it intact."""
    directory = cache / "images" / f"{kernel.release}_{kernel.packages[0].sha256[:12]}"
    directory.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{directory}.lock"):
        # Compare the packages too: the archive may have gained modules for a lone binary package.
        listed = [[p.name, p.version, p.sha256] for p in kernel.packages]
        record = _read_record(directory)
        if record is None or record["packages"] != listed:
            record = _unpack_image(kernel, archive, directory)
        record["aliases"] = sorted({*record["aliases"], *aliases})
        _write_record(directory, record)
    return _load(spec, directory, record, tuple(archive.notes))


def _unpack_image(kernel: DebianKernel, archive: Archive, directory: Path) -> dict[str, Any]:
    debs = archive.fetch(kernel.packages)
    log.info("unpacking %s", kernel.release)
    shutil.rmtree(directory, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".unpack-") as name:
        tree = Path(name) / "image"
        unpack(debs, tree)
        vmlinuz = find_vmlinuz(tree, kernel.release)
        record = {
            "release": kernel.release,
            "version": kernel.version,
            "vmlinuz": str(vmlinuz.relative_to(tree)),
            "sha256": sha256_of(vmlinuz),
            "packages": [[p.name, p.version, p.sha256] for p in kernel.packages],
            "aliases": [],
        }
        _write_record(tree, record)
        tree.replace(directory)
    return record


def find_vmlinuz(tree: Path, release: str) -> Path:
    """Return vmlinuz of an unpacked package: in boot/ until 7.1, beside the modules from 7.2."""
    places = [tree / "boot" / f"vmlinuz-{release}"]
    places += [tree / base / release / "vmlinuz" for base in MODULES_ARE_IN]
    for path in places:
        if path.is_file():
            return path
    raise HarnessError(f"the packages of {release} have no vmlinuz in the places that Debian has used so far")


def _read_record(directory: Path) -> dict[str, Any] | None:
    """Return the record of a cached image, or None when the image is absent or damaged."""
    try:
        record: dict[str, Any] = json.loads((directory / "image.json").read_text())
        intact = sha256_of(directory / record["vmlinuz"]) == record["sha256"]
    except (OSError, ValueError, KeyError):
        return None
    return record if intact else None


def _write_record(directory: Path, record: Mapping[str, Any]) -> None:
    partial = directory / ".image.json"
    partial.write_text(json.dumps(record, indent=1) + "\n")
    partial.replace(directory / "image.json")


def _load(spec: str, directory: Path, record: Mapping[str, Any], notes: tuple[str, ...]) -> KernelImage:
    release = record["release"]
    places = [directory / base / release for base in MODULES_ARE_IN]
    modules = next((place for place in places if (place / "kernel").is_dir()), None)
    return KernelImage(
        spec=spec,
        release=release,
        vmlinuz=directory / record["vmlinuz"],
        modules=modules,
        config=_first_config([directory / "boot" / f"config-{release}", *_configs_in(directory, release)]),
        packages=tuple((name, version, digest) for name, version, digest in record["packages"]),
        sha256=record["sha256"],
        notes=notes,
        arch=_flavour_of(release).arch,
    )


def _flavour_of(release: str) -> Flavour:
    return next((built for built in FLAVOURS.values() if built.owns(release)), DEFAULT_FLAVOUR)


def _configs_in(directory: Path, release: str) -> list[Path]:
    return [directory / base / release / "config" for base in MODULES_ARE_IN]


def _from_cache(spec: str, wanted: str, cache: Path, why: str) -> KernelImage | None:
    """Return the newest cached image that fits; an alias means what it meant when last resolved."""
    fitting: list[tuple[tuple[Any, ...], Path, dict[str, Any]]] = []
    for directory in (cache / "images").glob("*_*/"):
        record = _read_record(directory)
        if record is None or not flavour(spec).owns(record["release"]):
            continue
        numbers, candidate, revision = parse_version(record["version"])
        fits: Callable[[str], bool] = record["aliases"].__contains__
        if fits(wanted) or (wanted[0].isdigit() and f"{record['version']}.".startswith(f"{wanted}.")):
            fitting.append(((numbers, candidate, revision), directory, record))
    if not fitting:
        return None
    _, directory, record = max(fitting, key=lambda entry: entry[0])
    note = f"{spec}: taken from the cache without asking the archive ({why})"
    return _load(spec, directory, record, (note,))


# A path


def _path_of(spec: str) -> tuple[Path, Path | None]:
    """Split ``PATH[,modules=DIR]`` into the image and the directory of its modules."""
    name, _, option = spec.partition(",")
    path = Path(name).expanduser().absolute()
    modules = None
    if option:
        key, _, value = option.partition("=")
        if key != "modules" or not value:
            raise UsageError(f"{spec!r}: after the image only ',modules=DIR' is known")
        modules = Path(value).expanduser().absolute()
    what = _what_it_is(path)
    if what != _FILE:
        raise UsageError(f"{name!r} {what}: a kernel is {KERNELS}")
    return path, modules


_FILE = "is a file"


def _what_it_is(path: Path) -> str:
    """Return what a path leads to, in words."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "does not exist"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if stat.S_ISDIR(mode):
        return "is a directory"
    return _FILE if stat.S_ISREG(mode) else "is no regular file"


def _resolve_path(spec: str) -> KernelImage:
    path, modules = _path_of(spec)
    header = boot_header.read(path)
    release = header.release
    return KernelImage(
        spec=spec,
        release=release,
        vmlinuz=path,
        modules=_modules_below(modules, release) if modules else None,
        config=_config_of(path, release),
        sha256=sha256_of(path),
        arch=header.arch,
    )


def _config_of(path: Path, release: str) -> Mapping[str, str] | None:
    """Return the configuration in the image itself, which cannot be of another build, else one beside it.

    None if there is neither: a booted guest is asked then (``running_config``, ``guest.setup``).
    """
    text = embedded_config(path)
    return parse_config(text) if text is not None else _first_config(_configs_beside(path, release))


def _modules_below(directory: Path, release: str) -> Path:
    for base in ("", release, *(f"{b}/{release}" for b in MODULES_ARE_IN)):
        if (directory / base / "kernel").is_dir():
            return directory / base
    raise UsageError(
        f"no modules of {release} below {directory}; make INSTALL_MOD_PATH={directory} modules_install"
        " puts them there"
    )


def _configs_beside(path: Path, release: str) -> list[Path]:
    """Return where a config usually is: /boot, the top of a build tree, beside the image."""
    beside = [path.parent / f"config-{release}", path.parent / "config", path.parent / ".config"]
    if path.parent.parts[-3:-2] == ("arch",):  # arch/x86/boot/bzImage
        beside.append(path.parents[3] / ".config")
    return beside


def _first_config(paths: Sequence[Path]) -> Mapping[str, str] | None:
    for path in paths:
        if path.is_file():
            return parse_config(path.read_text(encoding="utf-8", errors="replace"))
    return None


def parse_config(text: str) -> dict[str, str]:
    """Parse a kernel's .config into {CONFIG_NAME: value}; options that are not set are absent."""
    pairs = re.findall(r"^(CONFIG_\w+)=(.*)$", text, re.MULTILINE)
    return {name: value.strip('"') for name, value in pairs}

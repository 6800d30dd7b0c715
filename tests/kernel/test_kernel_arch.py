# SPDX-License-Identifier: GPL-2.0
"""Guests of other processors and flavours: which kernel, which QEMU, which programs."""

from __future__ import annotations

import gzip
import platform
import shutil
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from damon_tests import bundle
from damon_tests.kernel.guest import qemu
from damon_tests.kernel.images import boot_header, programs
from damon_tests.kernel.images.arch import AARCH64, DEFAULT_FLAVOUR, FLAVOURS, X86_64, flavour
from damon_tests.kernel.images.image import check, group_kernels, page_bytes, resolve
from damon_tests.kernel.images.packages import Package
from damon_tests.ports import NotSupported, UsageError


def arm64_image(release: str = "7.3.0-mine", pages: int = 0) -> bytes:
    """Return what matters of an arm64 Image: its magic number and its banner."""
    head = bytearray(64)
    head[24:32] = struct.pack("<Q", pages << 1)
    head[0x38:0x3C] = b"ARM\x64"
    return bytes(head) + f"Linux version {release} (builder@example) #1 SMP".encode()


def zboot(payload: bytes) -> bytes:
    """Return an EFI zboot image with a gzipped payload (zboot-header.S)."""
    head = bytearray(64)
    head[:2], head[4:8], head[24:29] = b"MZ", b"zimg", b"gzip\0"
    struct.pack_into("<II", head, 8, 64, len(payload))
    return bytes(head) + payload + b"the loader"


# Flavours


@pytest.mark.parametrize(
    ("release", "name"),
    [
        ("7.3.4+deb13-cloud-amd64", ""),
        ("6.1.0-40-cloud-amd64", ""),
        ("7.3.4+deb13-rt-amd64", "rt"),
        ("7.0-rc3-rt-amd64", "rt"),
        ("7.3.4+deb13-cloud-arm64", "arm64"),
        ("7.3.4+deb13-arm64-16k", "arm64-16k"),
        ("7.3.4+deb13-armmp-lpae", "armmp-lpae"),
        ("7.3.4+deb13-amd64", None),
        ("7.3.4+deb13-cloud-amd64-dbg", None),
    ],
)
def test_a_release_is_of_one_flavour(release: str, name: str | None) -> None:
    owners = [known for known, built in FLAVOURS.items() if built.owns(release)]
    assert owners == ([] if name is None else [name])


def test_flavour_follows_the_at_sign() -> None:
    assert flavour("debian:7.3") == DEFAULT_FLAVOUR
    assert flavour("debian:stable@rt").suffix == "rt-amd64"
    assert flavour("debian:7.3@arm64").arch is AARCH64
    for spec in ("debian:7.3@", "debian:7.3@sparc"):
        with pytest.raises(UsageError, match="comes a flavour of Debian's kernels: @rt, @arm64, @arm64-16k"):
            check(spec)


def test_only_packages_of_the_flavour_make_a_kernel() -> None:
    names = [f"linux-image-7.3-{suffix}" for suffix in ("cloud-amd64", "rt-amd64", "amd64", "rt-amd64-dbg")]
    packages = [Package(name, "7.3-1", "00", 1, "") for name in names]
    releases = {name: [k.release for k in group_kernels(packages, built)] for name, built in FLAVOURS.items()}
    assert releases == {name: [] for name in FLAVOURS} | {"": ["7.3-cloud-amd64"], "rt": ["7.3-rt-amd64"]}


# Images


@pytest.mark.parametrize("wrap", [bytes, gzip.compress, lambda raw: zboot(gzip.compress(raw))])
def test_arm64_image_is_recognised_in_each_of_its_forms(
    tmp_path: Path, wrap: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "Image"
    path.write_bytes(wrap(arm64_image()))
    assert boot_header.read(path) == ("7.3.0-mine", AARCH64, 4 << 10)
    image = resolve(str(path))
    assert (image.release, image.arch, image.config) == ("7.3.0-mine", AARCH64, None)


@pytest.mark.parametrize(
    "raw", [b"", b"\x1f\x8b\x08broken", b"MZ\0\0zimg", b"MZ\0\0zimg" + bytes(8), bytes(70_000)]
)
def test_what_is_no_image_is_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(raw)
    with pytest.raises(UsageError, match="is no kernel image"):
        boot_header.read(path)


@pytest.mark.parametrize(("pages", "kib"), [(0, 4), (1, 4), (2, 16), (3, 64)])
def test_page_size_is_in_the_header_of_an_arm64_image(tmp_path: Path, pages: int, kib: int) -> None:
    path = tmp_path / "Image"
    path.write_bytes(arm64_image(pages=pages))
    assert page_bytes(str(path)) == kib << 10


def test_page_size_of_a_flavour_is_known_without_its_kernel() -> None:
    assert [page_bytes(f"debian:7.3{name}") >> 10 for name in ("", "@arm64", "@arm64-16k")] == [4, 4, 16]


def test_arm64_image_without_a_banner_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "Image"
    path.write_bytes(arm64_image()[:64])
    with pytest.raises(UsageError, match="does not say which release"):
        boot_header.read(path)


# QEMU and programs


def test_machine_follows_the_architecture() -> None:
    options = qemu.machine_options("tcg", "instructions", 1, 512, AARCH64)
    assert options[options.index("-M") + 1] == "virt,gic-version=3"
    assert options[options.index("-cpu") + 1] == "neoverse-n1"
    assert "pc" in qemu.machine_options("tcg", "host", 1, 512)


def test_programs_of_another_architecture_are_cross_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("make") is None:
        pytest.skip("needs make (Debian: apt-get install make)")
    sources = tmp_path / "workloads" / "src"
    sources.mkdir(parents=True)
    (sources / "Makefile").write_text("$(OUT)/damon-tests-thing:\n\techo $(CC) > $@\n")
    monkeypatch.setattr(bundle, "root", lambda: tmp_path)
    arch = AARCH64 if platform.machine() == X86_64.name else X86_64
    monkeypatch.setattr(shutil, "which", lambda tool: tool if tool == "make" else None)
    with pytest.raises(NotSupported, match=f"no {arch.compiler}") as refused:
        programs.program("damon-tests-thing", arch)
    assert arch.compiler_packages in str(refused.value)
    monkeypatch.setattr(shutil, "which", lambda tool: tool)
    built = programs.program("damon-tests-thing", arch)
    assert built == tmp_path / "workloads/build" / arch.name / "damon-tests-thing"
    assert built.read_text() == f"{arch.compiler}\n"


# A machine of another architecture as host: only its own QEMU runs there


def test_guest_in_kvm_has_the_interrupt_controller_of_its_machine() -> None:
    options = qemu.machine_options("kvm", "host", 1, 512, AARCH64)
    assert options[options.index("-M") + 1] == "virt,gic-version=host"
    assert options[options.index("-cpu") + 1] == "host"
    assert "pc" in qemu.machine_options("kvm", "host", 1, 512)


@pytest.mark.parametrize(
    ("machine", "debian", "triplet"),
    [("x86_64", "amd64", "x86_64-linux-gnu"), ("aarch64", "arm64", "aarch64-linux-gnu")],
)
def test_qemu_is_fetched_for_this_machine_whatever_its_guests_are(
    machine: str, debian: str, triplet: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(qemu, "_missing_libraries", lambda binary: False)
    asked = []

    class Stub:
        def __init__(self, name: str, suites: object, cache: object, architecture: str) -> None:
            asked.append((name, architecture))

        def closure(self, names: Sequence[str], suite: str) -> list[tuple[str, str]]:
            return [(name, "1") for package in (X86_64, AARCH64) for name in package.qemu_packages]

        def packages(self, names: Sequence[str]) -> list[Package]:
            return [Package(name, "1", "00", 1, "") for name in names]

        def fetch(self, packages: object) -> list[Path]:
            return []

    def unpacked(debs: object, into: Path) -> None:
        libraries = into / "usr/lib" / triplet
        libraries.mkdir(parents=True)
        (libraries / "libfdt.so.1").touch()

    monkeypatch.setattr(qemu, "Archive", Stub)
    monkeypatch.setattr(qemu, "unpack", unpacked)
    monkeypatch.setattr(qemu, "version_of", lambda binary, libraries=(): "10.0.2" if libraries else None)
    found = qemu._fetch_from(("trixie", "trixie"), tmp_path, None, X86_64)
    assert found is not None
    assert found.libraries[0].parts[-2:] == ("lib", triplet)
    assert asked == [("qemu-trixie" if debian == "amd64" else "qemu-trixie-arm64", debian)]

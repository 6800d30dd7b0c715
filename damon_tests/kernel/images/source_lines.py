# SPDX-License-Identifier: GPL-2.0
"""Add files and lines to a kernel's bug reports, where the symbols of its image are at hand."""

from __future__ import annotations

from pathlib import Path

from damon_tests.kernel.images.image import KernelImage
from damon_tests.kernel.splat import parse_splats
from damon_tests.kernel.symbolize import symbolize

_BOOT = ("arch", "x86", "boot")


def vmlinux_of(image: KernelImage) -> Path | None:
    """Return the vmlinux beside an image, or at the top of the build directory that it is in."""
    places = [image.vmlinuz.parent / "vmlinux"]
    if image.vmlinuz.parent.parts[-3:] == _BOOT:
        places.append(image.vmlinuz.parents[3] / "vmlinux")
    return next((path for path in places if path.is_file()), None)


def with_source_lines(log: str, image: KernelImage) -> str:
    """Return a kernel's log with ``(file:line)`` in the call traces of its reports, if there are any."""
    vmlinux = vmlinux_of(image)
    return symbolize(log, vmlinux) if vmlinux is not None and parse_splats(log) else log

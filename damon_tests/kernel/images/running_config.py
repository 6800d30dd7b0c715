# SPDX-License-Identifier: GPL-2.0
"""Read the configuration of a running kernel from /proc/config.gz, its image, or /boot."""

from __future__ import annotations

import gzip
import zlib
from contextlib import suppress

from damon_tests.damon.kernel_config import KernelConfig
from damon_tests.kernel.images.image import KernelImage, parse_config
from damon_tests.ports import Machine

IKCONFIG = "/proc/config.gz"


def running_config(machine: Machine, release: str, image: KernelImage | None = None) -> KernelConfig:
    """Read the configuration of a machine's kernel: IKCONFIG, then the image's, then /boot."""
    with suppress(OSError, EOFError, zlib.error):
        return KernelConfig(IKCONFIG, parse_config(gzip.decompress(machine.read_file(IKCONFIG)).decode()))
    if image is not None:
        if image.config is None:
            return KernelConfig(f"no configuration of {image.spec}: no {IKCONFIG}, none with its image", None)
        return KernelConfig(f"the configuration of {image.spec}", image.config)
    path = f"/boot/config-{release}"
    with suppress(OSError):
        return KernelConfig(path, parse_config(machine.read_file(path).decode(errors="replace")))
    return KernelConfig(f"no configuration of {release}: neither {IKCONFIG} nor {path}", None)

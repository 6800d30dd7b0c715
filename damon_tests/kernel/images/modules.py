# SPDX-License-Identifier: GPL-2.0
"""Put the kernel modules of an image into load order.

Packages are unpacked, not installed, so there is no modules.dep; each module lists its dependencies in its
.modinfo section. Some are soft: ext4 of 6.12 loads without the checksum crc32c, and then refuses to mount.
"""

from __future__ import annotations

import gzip
import lzma
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from damon_tests.ports import HarnessError, NotSupported

# Config options of the modules that guests may need.
_OPTIONS = {"zram": "CONFIG_ZRAM", "virtio_blk": "CONFIG_VIRTIO_BLK", "ext4": "CONFIG_EXT4_FS"}

_SUFFIX = re.compile(r"\.ko(\.(xz|gz|zst))?$")


def _name_of(path: Path) -> str:
    """Return the module's name as the kernel spells it: ``snd-pcm.ko.xz`` is ``snd_pcm``."""
    return _SUFFIX.sub("", path.name).replace("-", "_")


class ModuleTree:
    """The modules below ``directory`` (``/lib/modules/RELEASE``); None: no modules."""

    def __init__(self, directory: Path | None, config: Mapping[str, str] | None = None) -> None:
        """Index the modules. ``config`` adds built-in modules to those in the directory's modules.builtin;
        if neither is there, nobody knows what is built in before a guest has booted."""
        self._paths: dict[str, Path] = {}
        self._config = config
        self._knows_builtin = config is not None
        self._builtin = {name for name, option in _OPTIONS.items() if (config or {}).get(option) == "y"}
        if directory is not None:
            files = (path for path in directory.rglob("*.ko*") if _SUFFIX.search(path.name))
            self._paths = {_name_of(path): path for path in files}
            builtin = directory / "modules.builtin"
            if builtin.is_file():
                self._knows_builtin = True
                self._builtin |= {_name_of(Path(line)) for line in builtin.read_text().split()}

    def has(self, name: str) -> bool:
        """Return whether ``name`` is a loadable module with a file, not built in."""
        return name in self._paths

    def load_order(self, wanted: Iterable[str]) -> list[tuple[str, bytes]]:
        """Return (name, contents) of ``wanted`` and their dependencies, each after what it depends on.

        Modules that are built in, or may be, are left out. Raises NotSupported for a module that does not
        exist.
        """
        ordered: dict[str, bytes] = {}
        for name in wanted:
            self._add(name.replace("-", "_"), ordered, ())
        return list(ordered.items())

    def _add(self, name: str, ordered: dict[str, bytes], above: tuple[str, ...]) -> None:
        if name in ordered or name in self._builtin or name in above:
            return
        path = self._paths.get(name)
        if path is None and not self._knows_builtin:
            return
        if path is None:
            raise self._missing(name)
        contents = read_module(path)
        for needed in (*depends(contents), *self._softly_needed(contents)):
            self._add(needed, ordered, (*above, name))
        ordered[name] = contents

    def _softly_needed(self, contents: bytes) -> list[str]:
        """Return the modules here that a module wants to be loaded before it, if they are there."""
        candidates = (
            candidate for wanted in soft_depends(contents) for candidate in (wanted, _portable_cipher(wanted))
        )
        return [name for name in candidates if self.has(name)]

    def _missing(self, name: str) -> NotSupported:
        option = _OPTIONS.get(name, "")
        remedy = "take an image that comes with its modules (PATH,modules=DIR), or has it built in"
        if self._config is not None and option and option not in self._config:
            return NotSupported(
                f"the kernel is built without {name} ({option} is not set)", remedy=f"set {option}=y"
            )
        return NotSupported(f"the module {name} of this kernel", remedy=remedy)


def depends(contents: bytes) -> list[str]:
    """Return the dependencies in a module's .modinfo."""
    match = re.search(rb"\0depends=([\w,-]*)\0", contents)
    names = match[1].decode() if match else ""
    return [name.replace("-", "_") for name in names.split(",") if name]


def soft_depends(contents: bytes) -> list[str]:
    """Return what a module's .modinfo wants to be loaded before it: names of modules, or their aliases."""
    match = re.search(rb"\0softdep=pre: ([^\0]*)\0", contents)
    names = match[1].decode().partition("post:")[0].split() if match else []
    return [name.replace("-", "_") for name in names]


def _portable_cipher(alias: str) -> str:
    """Return the module of the kernel's crypto/ that has an alias of an algorithm, ``crypto_crc32c``."""
    return f"{alias.removeprefix('crypto_')}_generic"


def read_module(path: Path) -> bytes:
    """Return a module's ELF file, decompressed, because the guest has no tool for that."""
    raw = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(raw)
    if path.suffix == ".gz":
        return gzip.decompress(raw)
    if path.suffix == ".zst":
        return _unzstd(raw, path)
    return raw


def _unzstd(raw: bytes, path: Path) -> bytes:
    if shutil.which("zstd") is None:
        raise HarnessError(f"{path.name} is compressed with zstd, and this machine has no zstd program")
    result = subprocess.run(["zstd", "-dc"], input=raw, capture_output=True, check=False)
    if result.returncode:
        raise HarnessError(f"{path} is damaged: {result.stderr.decode(errors='replace').strip()}")
    return result.stdout

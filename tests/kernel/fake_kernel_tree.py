# SPDX-License-Identifier: GPL-2.0
"""A kernel tree of a few files, and a make that "builds" it in milliseconds."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

_MAKE = '''#!{python}
"""Understands: -C TREE O=DIR ... [ARCH=um] [KCONFIG_ALLCONFIG=FILE allnoconfig | bzImage | linux]."""
import os, pathlib, sys, time
words = dict(w.split("=", 1) for w in sys.argv if "=" in w)
tree, out = pathlib.Path(sys.argv[sys.argv.index("-C") + 1]), pathlib.Path(words["O"])
if sys.argv[-1] == "allnoconfig":
    refused = (tree / "refuses").read_text().split() if (tree / "refuses").exists() else []
    lines = pathlib.Path(words["KCONFIG_ALLCONFIG"]).read_text().splitlines()
    kept = [l for l in lines if l.split("=")[0] not in refused]
    (out / ".config").write_text("\\n".join(kept) + "\\n")
    sys.exit(0)
if (tree / "sleeps").exists():
    (tree / "make.pid").write_text(str(os.getpid()))
    time.sleep(float((tree / "sleeps").read_text()))
if (tree / "fails").exists():
    print((tree / "fails").read_text(), flush=True)
    print("make: *** [mm] Error 2", flush=True)
    sys.exit(2)
for source in sorted(tree.glob("mm/damon/*.c")):
    object_ = out / source.relative_to(tree).with_suffix(".o")
    if not object_.exists() or object_.read_text() != source.read_text():
        object_.parent.mkdir(parents=True, exist_ok=True)
        object_.write_text(source.read_text())
        print("  CC      " + str(object_.relative_to(out)), flush=True)
is_uml = words.get("ARCH") == "um"
assert sys.argv[-1] == ("linux" if is_uml else "bzImage")
image = out / ("linux" if is_uml else "arch/x86/boot/bzImage")
image.parent.mkdir(parents=True, exist_ok=True)
(out / "include/config").mkdir(parents=True, exist_ok=True)
(out / "include/config/kernel.release").write_text("7.3.4\\n")
image.write_text(("ARCH=um " if is_uml else "") + "image of " + (tree / "mm/damon/core.c").read_text())
(out / "vmlinux").write_text("symbols")
'''


def kernel_tree(path: Path) -> Path:
    """Make the tree; its file ``mm/damon/core.c`` is what the image is made of."""
    (path / "mm/damon").mkdir(parents=True)
    (path / "Kbuild").touch()
    (path / "Kconfig").touch()
    (path / "mm/damon/core.c").write_text("core 1")
    (path / "mm/damon/paddr.c").write_text("paddr 1")
    return path


def fake_make(directory: Path) -> str:
    """Write the program and return its path."""
    path = directory / "fake-make"
    path.write_text(_MAKE.replace("{python}", sys.executable))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)

# SPDX-License-Identifier: GPL-2.0
"""Make and save figures with matplotlib, which only the extra ``report`` installs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from damon_tests.ports import NotSupported, UsageError, output_file

SUFFIXES = (".png", ".svg")

_DPI = 110


def check(path: Path) -> None:
    """Raise UsageError for a picture that is neither .png nor .svg."""
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path}: pictures are written as {' or '.join(SUFFIXES)}")


def new(width: float, height: float) -> Any:
    """Return an empty matplotlib Figure; sizes in inches. Raises NotSupported without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise NotSupported(
            "pictures as PNG or SVG need matplotlib", remedy="pip install 'damon-tests[report]'"
        ) from None
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Any, path: Path) -> None:
    """Write ``path`` (.png or .svg), without a date: the same figure is the same file."""
    metadata = {"Date": None} if path.suffix == ".svg" else {}
    with output_file.writing(path) as file:
        figure.savefig(file, format=path.suffix.removeprefix("."), dpi=_DPI, metadata=metadata)

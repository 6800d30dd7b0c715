# SPDX-License-Identifier: GPL-2.0
"""What DAMON saw, beside what really happened, and the difference: as text, PNG or SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from damon_tests.damon.recording_file import F64
from damon_tests.ports import NotSupported
from damon_tests.report import words
from damon_tests.report.raster import Raster

Marks = Sequence[tuple[str, float]]
"""(name, seconds since recording began): phase changes and the like."""

_SHADES = " ·░▒▓█"
_UNDER = " -="
_OVER = " +#"
_UNCOVERED = "?"


# --- text ------------------------------------------------------------------------------------


def text(picture: Raster) -> list[str]:
    """Three panels side by side, highest address on top. No colour, no dependency.

    Every row and column of ``picture`` is printed; ``text_columns`` says how many columns fit.
    """
    if picture.seen.size == 0:
        return ["(nothing was recorded)"]
    labels = _row_labels(picture)
    margin = max(len(label) for label in labels)
    columns = picture.seen.shape[1]
    titles = ("DAMON saw", "really happened", "difference")
    out = [" " * margin + " " + " ".join(f" {t[:columns]:<{columns}} " for t in titles)]
    panels = (_shaded(picture.seen), _shaded(picture.true), _signed(picture.difference))
    starts = {s.row0 for s in picture.stretches[1:]}
    bar = "─" * columns
    for row in reversed(range(picture.seen.shape[0])):
        cells = " ".join(f"│{panel[row]}│" for panel in panels)
        out.append(f"{labels[row]:>{margin}} {cells}")
        if row in starts:
            out.append(" " * margin + " " + " ".join(f"├{bar}┤" for _ in panels))
    out.append(" " * margin + " " + " ".join(f"└{bar}┘" for _ in panels))
    first, last = f"{picture.edges_s[0]:.1f}", f"{picture.edges_s[-1]:.1f} s"
    axis = f" {first}{last:>{max(0, columns - len(first))}} "
    out.append(" " * margin + " " + " ".join(axis for _ in panels))
    out.append(f"access rate 0 '{_SHADES}' 1   not monitored '{_UNCOVERED}'   ")
    out[-1] += f"too little '{_UNDER[1:]}' too much '{_OVER[1:]}' (more than 0.1, 0.5)"
    return [line.rstrip() for line in out]


def text_columns(width: int, label: int = 14) -> int:
    """How many columns a panel of ``text`` may have in a terminal of ``width``."""
    return max(8, (width - label - 9) // 3)


def _shaded(rates: F64) -> list[str]:
    """Rows of one character a cell; every rate above 0 is visible."""
    level = np.where(rates > 0, np.clip(np.ceil(np.nan_to_num(rates) * 5 - 1e-9), 1, 5), 0).astype(int)
    characters = np.array(list(_SHADES))[level]
    characters[np.isnan(rates)] = _UNCOVERED
    return ["".join(row) for row in characters]


def _signed(difference: F64) -> list[str]:
    level = (np.abs(difference) > 0.1).astype(int) + (np.abs(difference) > 0.5)
    characters = np.where(difference < 0, np.array(list(_UNDER))[level], np.array(list(_OVER))[level])
    return ["".join(row) for row in characters]


def _row_labels(picture: Raster) -> list[str]:
    """The region's name in the middle of each stretch, offsets into it at its ends."""
    labels = [""] * picture.seen.shape[0]
    for s in picture.stretches:
        labels[s.row0] = f"+{words.size(s.start - s.origin)}" if s.start > s.origin else "0"
        if s.row1 - s.row0 > 1:
            labels[s.row1 - 1] = f"+{words.size(s.end - s.origin)}"
        if s.row1 - s.row0 > 2:
            labels[(s.row0 + s.row1) // 2] = s.name[:20]
    return labels


# --- PNG, SVG --------------------------------------------------------------------------------


def save(picture: Raster, path: Path, *, title: str = "", marks: Marks = ()) -> None:
    """Write ``path`` (.png or .svg). Raises NotSupported without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise NotSupported(
            "pictures as PNG or SVG need matplotlib", remedy="pip install 'damon-tests[report]'"
        ) from None
    height = min(9.0, 2.6 + 0.055 * picture.seen.shape[0])
    figure = Figure(figsize=(13, height), layout="constrained")
    axes = figure.subplots(1, 3, sharex=True, sharey=True)
    if title:
        figure.suptitle(title, fontsize=11)
    rate = _panel(axes[0], picture, picture.seen, "DAMON saw", "rate")
    _panel(axes[1], picture, picture.true, "really happened", "rate")
    signed = _panel(axes[2], picture, picture.difference, "difference (seen - true)", "signed")
    for ax in axes:
        for _, at in marks:
            ax.axvline(at, color="0.35", linewidth=0.8, linestyle=":")
    for name, at in marks:
        axes[0].annotate(
            name,
            (at, 1),
            xycoords=("data", "axes fraction"),
            xytext=(2, -3),
            textcoords="offset points",
            fontsize=8,
            va="top",
            color="0.25",
        )
    _address_axis(axes[0], picture)
    figure.colorbar(
        rate, ax=list(axes[:2]), label="access rate (nr_accesses / W), white: none", pad=0.01, aspect=30
    )
    figure.colorbar(signed, ax=axes[2], label="too little        too much", pad=0.02, aspect=30)
    metadata = {"Date": None} if path.suffix == ".svg" else {}
    figure.savefig(path, dpi=110, metadata=metadata)


def _panel(ax: Any, picture: Raster, values: F64, title: str, kind: str) -> Any:
    from matplotlib import colormaps

    if kind == "rate":
        # No access at all is white: the faintest access must stand out from it.
        colours, low = colormaps["YlGnBu"].with_extremes(bad="0.85", under="white"), 1e-9
    else:
        colours, low = colormaps["RdBu_r"].with_extremes(bad="0.85"), -1.0
    rows = np.arange(picture.seen.shape[0] + 1)
    # Without a single window there is an empty picture.
    edges = picture.edges_s if len(picture.edges_s) else np.zeros(1)
    image = ax.pcolormesh(
        edges, rows, np.ma.masked_invalid(values), cmap=colours, vmin=low, vmax=1, rasterized=True
    )
    ax.set_title(title, fontsize=10)
    ax.set_xlabel("seconds since recording began", fontsize=9)
    ax.tick_params(labelsize=8)
    for s in picture.stretches[1:]:
        ax.axhline(s.row0, color="0.3", linewidth=0.7)
    return image


def _address_axis(ax: Any, picture: Raster) -> None:
    """Where each region begins, with its name, and offsets into it at the ends of its stretches."""
    ticks: dict[int, str] = {}
    for s in picture.stretches:
        if s.start == s.origin:
            ticks[s.row0] = s.name if s.name == f"{s.origin:#x}" else f"{s.name}  {s.origin:#x}"
        ticks.setdefault(s.row1, f"+{words.size(s.end - s.origin)}")
    ax.set_yticks(list(ticks), list(ticks.values()))
    ax.set_ylim(0, picture.seen.shape[0])

# SPDX-License-Identifier: GPL-2.0
"""Differential flame graphs: how wide a function is now, and whether it grew (red) or shrank (blue)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from html import escape

from damon_tests.ports.cost import CallTree

_WIDTH, _ROW, _FONT = 1200, 18, 12
_NARROWEST = 0.3  # pixels
_CHARACTER = 7  # pixels, about
_STRONG = 0.1  # a function that changed by so much has the full colour


def folded_difference(before: CallTree, after: CallTree) -> str:
    """Return lines ``outer;inner BEFORE AFTER``, as differential flame graph programs take them."""
    old, new = _own(before), _own(after)
    lines = [f"{';'.join(p)} {old[p]} {new[p]}" for p in sorted({*old, *new}) if old[p] or new[p]]
    return "\n".join(lines) + "\n" if lines else ""


def _own(tree: CallTree) -> Counter[tuple[str, ...]]:
    return Counter({p.names: p.instructions for p in tree.paths if not p.interrupt})


@dataclass(frozen=True)
class _Box:
    path: tuple[str, ...]
    left: float
    width: float
    before: float
    after: float


def difference_svg(before: CallTree, after: CallTree, scale: tuple[float, float], title: str) -> str:
    """A self-contained SVG. ``scale``: what a whole tree stands for (a check), old and new."""
    old, new = _inclusive(before, scale[0]), _inclusive(after, scale[1])
    boxes = _lay_out(old, new)
    depth = max((len(box.path) for box in boxes), default=0)
    height = (depth + 2) * _ROW + 10
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}"'
        f' font-family="monospace" font-size="{_FONT}">',
        f'<text x="4" y="{_ROW - 4}">{escape(title)}</text>',
        *(_draw(box, height) for box in boxes),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _inclusive(tree: CallTree, scale: float) -> dict[tuple[str, ...], float]:
    """What every path and all below it executes, in units of ``scale`` for the whole tree."""
    totals: Counter[tuple[str, ...]] = Counter()
    for path, own in _own(tree).items():
        for end in range(len(path) + 1):
            totals[path[:end]] += own
    whole = totals[()] or 1
    return {path: count * scale / whole for path, count in totals.items()}


def _lay_out(old: dict[tuple[str, ...], float], new: dict[tuple[str, ...], float]) -> list[_Box]:
    """Return boxes for all paths, children left to right within their parent, as wide as they are now."""
    children: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for path in sorted({*old, *new}):
        if path:
            children.setdefault(path[:-1], []).append(path)
    per_unit = _WIDTH / max(new.get((), 0.0), 1e-9)
    boxes: list[_Box] = []
    todo: list[tuple[tuple[str, ...], float]] = [((), 0.0)]
    while todo:
        parent, left = todo.pop()
        for path in children.get(parent, []):
            width = new.get(path, 0.0) * per_unit
            if width >= _NARROWEST:
                boxes.append(_Box(path, left, width, old.get(path, 0.0), new.get(path, 0.0)))
                todo.append((path, left))
            left += width
    return boxes


def _draw(box: _Box, height: int) -> str:
    top = height - len(box.path) * _ROW - 6
    name = box.path[-1]
    room = int(box.width // _CHARACTER)
    label = name if len(name) <= room else name[: room - 2] + ".." if room > 4 else ""
    change = f"{box.before:.1f} to {box.after:.1f}"
    return (
        f"<g><title>{escape(';'.join(box.path))}: {change}</title>"
        f'<rect x="{box.left:.2f}" y="{top}" width="{box.width:.2f}" height="{_ROW - 1}"'
        f' fill="{_colour(box)}" stroke="white" stroke-width="0.4"/>'
        f'<text x="{box.left + 3:.2f}" y="{top + _ROW - 5}">{escape(label)}</text></g>'
    )


def _colour(box: _Box) -> str:
    """Return white for no change, red for growth, blue for less; new functions are fully red."""
    change = (box.after - box.before) / box.before if box.before else 1.0
    faded = 230 - int(min(abs(change) / _STRONG, 1.0) * 130)
    if abs(change) < 1e-3:
        return "rgb(235,235,235)"
    return f"rgb(250,{faded},{faded})" if change > 0 else f"rgb({faded},{faded},250)"

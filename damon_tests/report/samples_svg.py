# SPDX-License-Identifier: GPL-2.0
"""The raw samples of a check as a small picture: a dot each, beside the range that the reference has."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from damon_tests.ports.numbers import number
from damon_tests.report.wording import plural

WIDTH, HEIGHT = 160, 28

_EDGE = 5
_MOST_DOTS = 400
_MOST_NAMED = 40
_RANGE = re.compile(r"reference's (\S+) to (\S+)")  # as judge.oracle writes the limit of a band


def samples_svg(check: Mapping[str, Any]) -> str:
    """Return an SVG element whose title names the samples; "" where it would say nothing."""
    samples = [float(x) for x in check["measurement"]["samples"] if isinstance(x, int | float)]
    samples = [x for x in samples if math.isfinite(x)]
    band = band_of(check["limit"])
    if not samples or (len(samples) < 2 and not band):
        return ""
    dots = samples[:: -(-len(samples) // _MOST_DOTS)]
    low, high = min([*dots, *band]), max([*dots, *band])
    if low == high:
        return ""
    scale = (WIDTH - 2 * _EDGE) / (high - low)
    parts = [f'<line class="axis" x1="0" x2="{WIDTH}" y1="{HEIGHT // 2}" y2="{HEIGHT // 2}"/>']
    unit = escape(check["measurement"]["unit"])
    if band:
        left, width = _EDGE + (band[0] - low) * scale, max(2.0, (band[1] - band[0]) * scale)
        parts.append(f'<rect class="range" x="{left:.1f}" y="4" width="{width:.1f}" height="{HEIGHT - 8}"/>')
    for x in dots:
        outside = ' class="out"' if band and not band[0] <= x <= band[1] else ""
        where = f'cx="{_EDGE + (x - low) * scale:.1f}" cy="{HEIGHT // 2}" r="2.5"'
        parts.append(f"<circle{outside} {where}><title>{number(x)} {unit}</title></circle>")
    title = escape(_title(samples, band, check["measurement"]["unit"]))
    return (
        f'<svg class="band" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        f' aria-label="{title}"><title>{title}</title>{"".join(parts)}</svg>'
    )


def band_of(limit: str) -> tuple[float, ...]:
    """Return the two numbers of "not below the reference's 0.93 to 0.99"; empty where there are none."""
    bounds = _RANGE.search(limit)
    try:
        return tuple(float(n.replace(",", "")) for n in bounds.groups()) if bounds else ()
    except ValueError:
        return ()


def _title(samples: Sequence[float], band: Sequence[float], unit: str) -> str:
    named = ", ".join(number(x) for x in samples[:_MOST_NAMED])
    text = f"{plural(len(samples), 'sample')}: {named} {unit}"
    return f"{text}; the reference: {number(band[0])} to {number(band[1])}" if band else text

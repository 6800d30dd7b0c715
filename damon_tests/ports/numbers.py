# SPDX-License-Identifier: GPL-2.0
"""Format numbers, both values and limits, for reports."""

from __future__ import annotations

import math


def number(value: float) -> str:
    """Return a number with thousands separators: "1,405,501,440", "0.08757", "1,234.5", "nan", "inf"."""
    if not math.isfinite(value):
        return str(value)
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    if 1e3 <= abs(value) < 1e15:
        return f"{value:,.1f}"
    return f"{value:.6g}"

# SPDX-License-Identifier: GPL-2.0
"""Types of the NumPy arrays that hold addresses, counters and rates, and what NumPy does slowly."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def distinct(*ascending: I64) -> I64:
    """Return the distinct values of several arrays that are ascending each, ascending.

    A stable sort merges what is ascending already: for region bounds ten times as fast as numpy.unique.
    """
    values: I64 = np.concatenate(ascending)
    values.sort(kind="stable")
    return values[np.append(True, values[1:] != values[:-1])] if len(values) else values

# SPDX-License-Identifier: GPL-2.0
"""Types of the NumPy arrays that hold addresses, counters and rates."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

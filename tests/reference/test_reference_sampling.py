# SPDX-License-Identifier: GPL-2.0
"""Sampling addresses: of all 64 bits of a region, and of each region by itself."""

import numpy as np
from reference_support import RULES


def test_regions_are_sampled_beyond_4_gib():
    offsets = RULES.sample_offset(np.linspace(0, 0.999, 1000), np.full(1000, float(1 << 40)))
    assert int(offsets.max()) > (1 << 40) * 99 // 100
    assert abs(int(np.median(offsets)) - (1 << 39)) < 1 << 31


def test_regions_are_sampled_at_places_of_their_own():
    offsets = RULES.sample_offset(np.array([0.1, 0.6]), np.full(2, 40960.0))
    assert (offsets // 4096).tolist() == [1, 6]

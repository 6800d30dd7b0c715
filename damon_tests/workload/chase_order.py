# SPDX-License-Identifier: GPL-2.0
"""The path of ``order: chase``: all slots, once each, in a random order.

Step ``k`` of the path is computed: four rounds of a Feistel network over the bits of ``k``, repeated until
the result is a slot (there are at most four times as many values as slots, so this repeats twice on
average). The engine writes the address of the next slot into each slot, and then follows these pointers.
The rounds use the generator's ``mix``::

    key    = pass_key(seed, region, first byte, slots)
    bits   = the smallest even number with 2 ** bits >= slots, at least 2; half = bits / 2
    rounds r = 0 .. 3:   left, right = right, left ^ (mix(right + key + r * G) & (2 ** half - 1))
    k = left << half | right
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from damon_tests.workload.random_order import GOLDEN, Slots, mix_array, pass_key

_ROUNDS = 4


def way(seed: int, region: int, start_bytes: int, slots: int, steps: npt.NDArray[np.int64]) -> Slots:
    """Return the slot at each step of the path (after the last slot the path starts again), same shape."""
    key = pass_key(seed, region, start_bytes, slots)
    half = max(1, ((slots - 1).bit_length() + 1) // 2)
    values = (steps % slots).astype(np.uint64).ravel()
    outside = np.arange(len(values))
    while len(outside):
        values[outside] = _permute(values[outside], key, half)
        outside = outside[values[outside] >= slots]
    result: Slots = values.astype(np.int64).reshape(steps.shape)
    return result


def _permute(values: npt.NDArray[np.uint64], key: int, half: int) -> npt.NDArray[np.uint64]:
    mask, shift = np.uint64((1 << half) - 1), np.uint64(half)
    left, right = values >> shift, values & mask
    for turn in range(_ROUNDS):
        offset = np.uint64((key + turn * GOLDEN) & ((1 << 64) - 1))
        left, right = right, left ^ (mix_array(right + offset) & mask)
    permuted: npt.NDArray[np.uint64] = left << shift | right
    return permuted

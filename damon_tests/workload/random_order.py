# SPDX-License-Identifier: GPL-2.0
"""The random generator of ``order: random``, identical to the engine's in C.

All arithmetic is on unsigned 64-bit integers that wrap. ``mix`` is the output function of
splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014)::

    mix(z):  z ^= z >> 30;  z *= 0xBF58476D1CE4E5B9
             z ^= z >> 27;  z *= 0x94D049BB133111EB
             z ^= z >> 31

    key = mix(seed + G)                          G = 0x9E3779B97F4A7C15
    for v in phase number, term, pass index:
        key = mix((key ^ v) + G)
    bits of step k (k = 0, 1, ...):
        bits = mix(key + (k + 1) * G)
    draw i of a random pass takes half of the bits of step i // 2, the upper one when i is even:
        slot = half * slots >> 32
    draw i of a weighted pass takes all bits of step i (``weights``)

The draws of a pass depend only on these numbers, so any pass can be computed alone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from damon_tests.ports.arrays import U64

GOLDEN = 0x9E3779B97F4A7C15
_U64_MASK = (1 << 64) - 1
_MULTIPLY_1 = 0xBF58476D1CE4E5B9
_MULTIPLY_2 = 0x94D049BB133111EB

Slots = npt.NDArray[np.int64]


def _mix(z: int) -> int:
    z ^= z >> 30
    z = z * _MULTIPLY_1 & _U64_MASK
    z ^= z >> 27
    z = z * _MULTIPLY_2 & _U64_MASK
    return z ^ z >> 31


def mix_array(z: U64) -> U64:
    z = z ^ z >> np.uint64(30)
    z *= np.uint64(_MULTIPLY_1)
    z ^= z >> np.uint64(27)
    z *= np.uint64(_MULTIPLY_2)
    z ^= z >> np.uint64(31)
    return z


def pass_key(seed: int, phase: int, term: int, pass_index: int) -> int:
    """Return the key from which all draws of a pass are derived."""
    key = _mix(seed + GOLDEN & _U64_MASK)
    for value in (phase, term, pass_index):
        key = _mix((key ^ value) + GOLDEN & _U64_MASK)
    return key


def draw_bits(seed: int, phase: int, term: int, passes: npt.NDArray[np.int64], touches: int) -> U64:
    """Return the 64 bits of each step of these passes, (len(passes), touches)."""
    key = _mix(seed + GOLDEN & _U64_MASK)
    for value in (phase, term):
        key = _mix((key ^ value) + GOLDEN & _U64_MASK)
    golden = np.uint64(GOLDEN)
    keys = mix_array((passes.astype(np.uint64) ^ np.uint64(key)) + golden)
    steps = np.arange(1, touches + 1, dtype=np.uint64) * golden
    return mix_array(keys[:, None] + steps)


def draw_passes(
    seed: int, phase: int, term: int, passes: npt.NDArray[np.int64], *, touches: int, slots: int
) -> Slots:
    """Return the slots that passes of a random term touch, in order, int64 (len(passes), touches).

    ``phase`` is the running phase number, ``term`` the index of the access in its phase, ``slots``
    the term's number of slots (``Access.slots``).
    """
    shift = np.uint64(32)
    bits = draw_bits(seed, phase, term, passes, (touches + 1) // 2)
    halves = np.stack([bits >> shift, bits & np.uint64(0xFFFFFFFF)], axis=2).reshape(len(passes), -1)
    slot_numbers: Slots = (halves[:, :touches] * np.uint64(slots) >> shift).astype(np.int64)
    return slot_numbers

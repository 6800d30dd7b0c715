# SPDX-License-Identifier: GPL-2.0
"""Whether other load of the host can delay what a test sees."""

from __future__ import annotations

from damon_tests.experiment.backend import Backend


def has_exact_clock(backend: Backend) -> bool:
    """Return whether only the machine under test moves its clock.

    True for the reference and for a guest on the instruction clock: there, no tick is late because the host
    is busy. Call it once the backend has made a subject.
    """
    return backend.simulated or backend.provenance().get("clock") == "instructions"

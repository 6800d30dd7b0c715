# SPDX-License-Identifier: GPL-2.0
"""What is kept of an attempt: the truth beside the recording, by physical address for paddr."""

from __future__ import annotations

import numpy as np
import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.experiment.experiment import Experiment, observe
from damon_tests.experiment.reference_backend import ReferenceBackend
from damon_tests.patterns import load
from damon_tests.ports import NSEC_PER_SEC
from damon_tests.report import artifacts
from damon_tests.report.raster import raster


@pytest.mark.parametrize(("addr_unit", "known"), [(1, True), (4096, True), (16384, False)])
def test_truth_of_physical_memory_is_kept(addr_unit: int, known: bool) -> None:
    """8 of 64 MiB were hot: so say the truth by frames, and about so the recording."""
    ctx = DamonCtx("paddr", addr_unit=addr_unit, attrs=DamonAttrs(max_nr_regions=100))
    observation = observe(
        Experiment(load.load("hot_cold"), ctx, 2 * NSEC_PER_SEC, "regions"), ReferenceBackend("7.3"), 3
    )
    saved = artifacts.saved_of("a test", observation)
    assert (saved.truth is not None) is known
    if saved.truth is None:
        return
    start, end, rate = saved.truth.of_window(10)
    assert int((end - start)[rate > 0.9].sum()) == 8 << 20
    drawn = raster(saved.recording, saved.about.layout, spans=saved.truth, rows=64)
    assert drawn.true is not None
    hot = drawn.true > 0.9
    assert np.nanmean(drawn.seen[hot][-50:]) > 0.5
    assert np.nanmean(drawn.seen[~hot]) < 0.2

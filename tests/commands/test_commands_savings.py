# SPDX-License-Identifier: GPL-2.0
"""``damon-tests savings``: what a plan that ends early leaves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from damon_tests.commands import savings
from damon_tests.judge.cost.savings import Arm, WorkloadCost
from damon_tests.scenario.savings import Plan

COST = WorkloadCost(
    work=100.0, own=5_000, kdamond=0, machine=9_000, tlb_flushes=3, kdamond_flushes=1, window_ns=10_000
)


def test_interrupted_plan_keeps_the_runs_that_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[Arm] = []

    @contextmanager
    def no_guest(*args: object) -> Iterator[None]:
        yield

    def run(backend: object, plan: Plan, use: str, work: savings.Workload, scheme: object, seed: int) -> Arm:
        if len(ended) == 2:
            raise KeyboardInterrupt
        name = "none" if not ended else "reclaim"
        ended.append(Arm(use, work.name, name, seed, COST, 200.0, 400.0, 5, 0))
        return ended[-1]

    monkeypatch.setattr(savings, "open_backend", no_guest)
    monkeypatch.setattr(savings, "run", run)
    monkeypatch.setattr(savings.KernelRequest, "check", lambda self: None)
    results = tmp_path / "savings.json"
    with pytest.raises(KeyboardInterrupt):
        savings.measure("debian:7.3", Plan(("reclaim",)), savings.Outputs(json=results))
    assert [arm["scheme"] for arm in json.loads(results.read_text())["arms"]] == ["none", "reclaim"]

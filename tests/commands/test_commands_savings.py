# SPDX-License-Identifier: GPL-2.0
"""``damon-tests savings``: what a plan that ends early leaves, and kept runs shown again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from damon_tests.commands import savings
from damon_tests.judge.cost.savings import Arm, WorkloadCost
from damon_tests.ports import UsageError
from damon_tests.report import savings as rendered
from damon_tests.scenario.savings import Plan
from damon_tests.scenario.savings_uses import Scheme

COST = WorkloadCost(
    work=100.0, own=5_000, kdamond=0, machine=9_000, tlb_flushes=3, kdamond_flushes=1, window_ns=10_000
)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[Arm]:
    """Run nothing: keep what would have run here, and interrupt the third run."""
    ended: list[Arm] = []

    class NoGuest:
        def provenance(self) -> dict[str, object]:
            return {"release": "7.3.4"}

    @contextmanager
    def no_guest(*args: object) -> Iterator[NoGuest]:
        yield NoGuest()

    def run(backend: object, plan: Plan, use: str, work: savings.Workload, scheme: Scheme, seed: int) -> Arm:
        if len(ended) == 2:
            ended.clear()
            raise KeyboardInterrupt
        ended.append(Arm(use, work.name, scheme.name, seed, COST, 200.0, 400.0, 5, 0))
        return ended[-1]

    monkeypatch.setattr(savings, "open_backend", no_guest)
    monkeypatch.setattr(savings, "run", run)
    monkeypatch.setattr(savings.KernelRequest, "check", lambda self: None)
    return ended


def plan_of(*patterns: str, settle_s: float = 6.0) -> Plan:
    return Plan(("reclaim",), tuple(map(savings.workload, patterns)), repeats=1, settle_s=settle_s)


def test_interrupted_plan_goes_on_where_it_ended(tmp_path: Path, ended: list[Arm]) -> None:
    outputs = savings.Outputs(json=tmp_path / "savings.json")
    plan = plan_of("zipf", "half_used")
    with pytest.raises(KeyboardInterrupt):
        savings.measure("debian:7.3", plan, outputs)
    arms, _ = rendered.load(tmp_path / "savings.json")
    assert [(arm.workload, arm.scheme) for arm in arms] == [("zipf", "none"), ("zipf", "reclaim")]
    assert savings.measure("debian:7.3", plan, outputs) == 0
    assert [(arm.workload, arm.scheme) for arm in ended] == [("half_used", "none"), ("half_used", "reclaim")]
    assert len(rendered.load(tmp_path / "savings.json")[0]) == 4


def test_runs_of_another_plan_are_not_mixed(tmp_path: Path, ended: list[Arm]) -> None:
    outputs = savings.Outputs(json=tmp_path / "savings.json")
    savings.measure("debian:7.3", plan_of("zipf"), outputs)
    with pytest.raises(UsageError, match=r"savings.json holds runs of .*'settle_s': 6.0"):
        savings.measure("debian:7.3", plan_of("zipf", settle_s=9.0), outputs)
    with pytest.raises(UsageError, match="name another file"):
        savings.measure("debian:7.2", plan_of("zipf"), outputs)


def kept(path: Path, *schemes: str) -> Path:
    arms = [Arm("reclaim", "zipf", scheme, 1, COST, 200.0, 400.0, 5, 0) for scheme in schemes]
    path.write_text(json.dumps(rendered.document(arms, {"kernel": "debian:7.3"})))
    return path


def test_kept_runs_of_several_files_are_shown_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [kept(tmp_path / "a.json", "none"), kept(tmp_path / "b.json", "reclaim")]
    assert savings.show(files, None) == 0
    assert "| `zipf` | reclaim | 0% |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("schemes", "words"),
    [(["none"], "no run under a scheme"), (["reclaim"], "never without it"), ([], "no run under a scheme")],
)
def test_kept_runs_that_compare_nothing_are_refused(tmp_path: Path, schemes: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        savings.show([kept(tmp_path / "a.json", *schemes)], None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no JSON"),
        ("[]", "is no file of damon-tests savings"),
        ('{"schema": 2, "arms": []}', "is no file of damon-tests savings"),
        ('{"schema": 1}', "damaged"),
        ('{"schema": 1, "arms": [{"cost": {}}]}', "damaged"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=words) as error:
        savings.show([path], None)
    assert str(path) in str(error.value)

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

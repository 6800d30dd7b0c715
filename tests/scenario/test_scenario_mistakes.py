# SPDX-License-Identifier: GPL-2.0
"""A test author's mistake is an ERROR that names the line and the known values."""

from __future__ import annotations

from pathlib import Path

import pytest

from damon_tests.damon.params import DamonCtx
from damon_tests.experiment.experiment import Experiment
from damon_tests.experiment.reference_backend import ReferenceBackend
from damon_tests.experiment.trial import Trial
from damon_tests.patterns import load
from damon_tests.ports import NSEC_PER_SEC, UsageError
from damon_tests.scenario.fixtures import ExperimentFixture, LiveFixture
from damon_tests.scenario.reference_bands import like_the_reference


@pytest.fixture
def trial() -> Trial:
    experiment = Experiment(load.load("idle"), DamonCtx("fvaddr"), 2 * NSEC_PER_SEC, "regions")
    return Trial(experiment, ReferenceBackend("7.3"), test_id="test", run_seed=1)


def test_unknown_metric_is_named_with_the_known_ones(trial: Trial) -> None:
    with pytest.raises(
        UsageError, match=r"unknown metric 'precison': the known metrics are precision, recall"
    ):
        like_the_reference(trial, ["precison"], after_s=1)
    assert not trial.observations, "nothing runs before"


@pytest.mark.parametrize(("after_s", "until_s"), [(2, None), (5, None), (1, 1), (1, 0.5)])
def test_time_beyond_the_recording_is_refused(trial: Trial, after_s: float, until_s: float | None) -> None:
    with pytest.raises(UsageError, match="nothing would be judged"):
        like_the_reference(trial, ["precision"], after_s=after_s, until_s=until_s)
    assert not trial.observations


def test_time_beyond_a_driven_run_is_refused(trial: Trial) -> None:
    with pytest.raises(UsageError, match="after_s=3: only 2 s are recorded"):
        like_the_reference(trial.observe, ["precision"], after_s=3)


def test_unknown_cover_is_refused_before_anything_starts() -> None:
    def broken() -> ReferenceBackend:
        raise AssertionError("a backend is opened")

    fixtures = [f(broken, "test", 1, lambda _: None) for f in (ExperimentFixture, LiveFixture)]
    with pytest.raises(UsageError, match="cover='region': the values are 'process' and 'regions'"):
        fixtures[0]("idle", DamonCtx(), seconds=1, cover="region")  # type: ignore[arg-type, call-arg]
    with (
        pytest.raises(UsageError, match="cover='region'"),
        fixtures[1]("idle", DamonCtx(), cover="region"),  # type: ignore[arg-type, attr-defined]
    ):
        pass


def test_authors_mistake_is_an_error_with_its_line(pytester_run: tuple[int, str]) -> None:
    code, out = pytester_run
    assert code == 6, out
    assert "test_wrong.py:6: DamonCtx(operations='fvadr'): the known values are vaddr, fvaddr, paddr" in out
    assert "Traceback" not in out


@pytest.fixture
def pytester_run(tmp_path: Path) -> tuple[int, str]:
    import subprocess
    import sys

    (tmp_path / "test_wrong.py").write_text(
        "from damon_tests.damon.params import DamonCtx\n"
        "\n"
        "\n"
        "def test_wrong(live, expect):\n"
        '    """A keyword that no kernel knows."""\n'
        '    with live("idle", DamonCtx("fvadr")):\n'
        "        pass\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "damon_tests.plugin",
        "--output",
        str(tmp_path / "run"),
    ]
    done = subprocess.run(
        [*command, "test_wrong.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr

# SPDX-License-Identifier: GPL-2.0
"""Every run leaves a complete observation, also one that records no regions or whose body raises."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from damon_tests.commands import recording as recording_command
from damon_tests.damon import recording_file
from damon_tests.damon.module_params import DamonReclaim
from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, Damos, DamosWatermarks, Kdamond
from damon_tests.damon.session import Source
from damon_tests.experiment.experiment import Experiment, observe
from damon_tests.experiment.live import LONGEST_APPLY_US, live
from damon_tests.experiment.observation import Observation
from damon_tests.experiment.reference_backend import ReferenceBackend
from damon_tests.judge.monitoring.invariants import never_aggregated
from damon_tests.patterns import load
from damon_tests.ports import NSEC_PER_SEC, HarnessError, MachineLost
from damon_tests.report import artifacts
from damon_tests.report.events import RunLog
from damon_tests.scenario.module_run import module_run

STAT = Damos(action="stat", access_pattern=ANY)
CTX = DamonCtx("fvaddr", attrs=DamonAttrs(max_nr_regions=100), schemes=(STAT, STAT))


def drive(
    kept: list[Observation], error: BaseException | None = None, ctx: DamonCtx = CTX, source: Source = "auto"
) -> None:
    with live(
        ReferenceBackend("7.3"),
        [load.load("idle")],
        [Kdamond(ctx)],
        1,
        cover="regions",
        source=source,
        keep=kept.append,
    ) as run:
        run.session.start()
        run.clock.run_for(NSEC_PER_SEC)
        if error is not None:
            raise error


@pytest.mark.parametrize("error", [None, AssertionError("not as expected"), pytest.skip.Exception("enough")])
def test_observation_is_kept_whatever_ends_the_body(error: BaseException | None) -> None:
    kept: list[Observation] = []
    if error is None:
        drive(kept)
    else:
        with pytest.raises(type(error)):
            drive(kept, error)
    (observation,) = kept
    assert len(observation.recording.snapshots) == 10
    assert [report.stats.nr_tried > 0 for report in observation.schemes] == [True, True]
    for report in observation.schemes:
        (tried,) = report.tried
        assert int(tried.regions.sizes.sum()) == sum(b - a for a, b in observation.layout.values())


def test_a_failure_of_the_harness_keeps_the_recording_but_asks_damon_for_nothing() -> None:
    kept: list[Observation] = []
    with pytest.raises(HarnessError):
        drive(kept, HarnessError("the workload broke"))
    (observation,) = kept
    assert len(observation.recording.snapshots) == 10
    assert observation.schemes == ()


@pytest.mark.parametrize("error", [MachineLost("gone"), KeyboardInterrupt()])
def test_nothing_is_read_from_a_machine_that_is_lost(error: BaseException) -> None:
    kept: list[Observation] = []
    with pytest.raises(type(error)):
        drive(kept, error)
    assert kept == []


def test_reading_tried_regions_does_not_lengthen_the_recording() -> None:
    """The recording ends before the commands that wait for the schemes' next passes."""
    kept: list[Observation] = []
    drive(kept)
    recording = kept[0].recording
    assert recording.stopped_ns - recording.started_ns == NSEC_PER_SEC


@pytest.mark.parametrize(
    "ctx",
    [
        replace(CTX, pause=True),
        replace(CTX, schemes=(replace(STAT, apply_interval_us=LONGEST_APPLY_US + 5_000),)),
        replace(
            CTX,
            schemes=(replace(STAT, watermarks=DamosWatermarks("free_mem_rate", 5_000_000, 1000, 999, 0)),),
        ),
    ],
    ids=["paused", "applied rarely", "with watermarks"],
)
def test_tried_regions_are_left_out_where_damon_would_not_answer_soon(ctx: DamonCtx) -> None:
    kept: list[Observation] = []
    drive(kept, ctx=ctx)
    assert [report.tried for report in kept[0].schemes] == [()] * len(ctx.schemes)


def test_a_run_that_records_no_regions_has_an_observation() -> None:
    kept: list[Observation] = []
    drive(kept, source="none")
    (observation,) = kept
    assert observation.recording.source == "none"
    assert observation.recording.stopped_ns - observation.recording.started_ns == NSEC_PER_SEC
    assert len(observation.schemes) == 2
    assert not never_aggregated(observation.recording)


def test_an_experiment_that_breaks_keeps_its_observation(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Observation] = []
    experiment = Experiment(load.load("idle"), CTX, NSEC_PER_SEC, "regions")

    def broken(self: object, duration_ns: int) -> None:
        raise HarnessError("the machine stalls")

    monkeypatch.setattr("damon_tests.experiment.live.Live.make_up", broken)
    with pytest.raises(HarnessError):
        observe(experiment, ReferenceBackend("7.3"), 1, keep=kept.append)
    assert len(kept[0].recording.snapshots) == 10


@pytest.mark.parametrize("breaks", [False, True])
def test_module_runs_keep_their_counters(breaks: bool) -> None:
    subject = ReferenceBackend("7.3").subject(1)
    parameters = DamonReclaim(wmarks_high=1000, wmarks_mid=999, wmarks_low=0, min_age=1_000_000)
    runs = []
    try:
        with module_run(subject, parameters, [load.load("idle")], 1) as run:
            runs.append(run)
            run.enable()
            run.run_for(3)
            if breaks:
                raise AssertionError
    except AssertionError:
        assert breaks
    observation = runs[0].observation
    assert observation.recording.snapshots
    assert [report.stats.nr_tried > 0 for report in observation.schemes] == [True]


@pytest.mark.parametrize("source", ["auto", "none"])
def test_scheme_reports_are_in_the_run_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str
) -> None:
    """The recording's file has counters and tried regions, and ``recording show`` prints them."""
    kept: list[Observation] = []
    drive(kept, source=source)
    log = RunLog(tmp_path)
    artifacts.keep_attempt(log, "suites/test_x.py::test_y", kept[0])
    (path,) = tmp_path.rglob("recording.npz")
    saved = recording_file.read(path)
    assert [(r.stats, r.effective_bytes) for r in saved.schemes] == [
        (r.stats, r.effective_bytes) for r in kept[0].schemes
    ]
    for now, before in zip(saved.schemes, kept[0].schemes, strict=True):
        for column in ("start", "end", "nr_accesses", "age", "sz_filter_passed"):
            values = getattr(now.tried[0].regions, column)
            assert values.tolist() == getattr(before.tried[0].regions, column).tolist()
    assert recording_command.show(path) == 0
    out = capsys.readouterr().out
    assert "scheme 1 (stat): tried" in out
    assert "of 64 MiB tried" in out
    assert ("did not record regions" in out) is (source == "none")

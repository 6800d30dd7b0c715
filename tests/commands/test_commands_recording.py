# SPDX-License-Identifier: GPL-2.0
"""``damon-tests recording``: any recording opened, shown, converted, judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from damo_samples import request, sample
from synthetic_recordings import hot_cold

from damon_tests import cli
from damon_tests.commands import recording
from damon_tests.damon import damo_format, recording_file
from damon_tests.damon.recording_file import About
from damon_tests.damon.records import Recording
from damon_tests.judge.monitoring.aggregation_windows import windows
from damon_tests.judge.monitoring.true_rates import spans_of

GOLDEN = Path(__file__).parents[1] / "golden/damo"


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """A recording of ours with everything beside it."""
    truth, damon, report = hot_cold(aggregations=20)
    spans = spans_of(truth, windows(report), report)
    about = About("a test, attempt 1", "7.3", {"heap": damon.ranges[0]}, (("steady", 0),), damon.ctx)
    recording_file.save(tmp_path / "recording.npz", report, spans, about)
    return tmp_path / "recording.npz"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = cli.main(["recording", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_show_prints_report_and_truth(ours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys, "show", ours, "--width", 120)
    assert code == 0
    assert all(word in out for word in ("a test, attempt 1", "really happened", "heap", "▾steady"))
    assert max(map(len, out.splitlines())) <= 120
    code, out = run(capsys, "show", ours, "--no-truth")
    assert "really" not in out


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_show_as_a_picture(
    ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    path = tmp_path / f"out{suffix}"
    code, out = run(capsys, "show", ours, "--png", path)
    assert (code, str(path) in out) == (0, True)
    assert path.stat().st_size > 10_000


def test_to_damo_and_back(ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there, back = tmp_path / "damo", tmp_path / "back.npz"
    assert run(capsys, "export", ours, "--to", "damo", there)[0] == 0
    assert run(capsys, "import", there, back)[0] == 0
    a, b = recording_file.read(ours), recording_file.read(back)
    assert len(a.recording.snapshots) == len(b.recording.snapshots) == 20
    pairs = zip(a.recording.snapshots, b.recording.snapshots, strict=True)
    assert all(np.array_equal(x.start, y.start) for x, y in pairs)
    assert a.about.ctx == b.about.ctx


def test_judge_of_ours_needs_nothing(ours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys, "judge", ours)
    assert code == 0
    assert "PASS" in out
    assert "recall of hot bytes" in out


def test_judge_of_a_recording_made_by_damo(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "judge", GOLDEN / "recorded") == (
        2,
        "damon-tests: the recording does not say which kernel series made it: give --level, such as 7.3\n",
    )
    code, out = run(capsys, "judge", GOLDEN / "recorded", "--level", "7.3")
    assert code == 0
    assert "PASS" in out


def broken(report: Recording) -> Recording:
    """Counts more hits than there are samples, in one region."""
    first = report.snapshots[3]
    nr = first.nr_accesses.copy()
    nr[0] = 21
    snapshots = list(report.snapshots)
    snapshots[3] = replace(first, nr_accesses=nr)
    return replace(report, snapshots=tuple(snapshots))


def test_a_wrong_recording_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damo_format.save(tmp_path / "r", broken(sample()), ctx=request())
    code, out = run(capsys, "judge", tmp_path / "r", "--level", "7.3")
    assert code == 1
    assert "largest nr_accesses = 21 samples" in out
    assert "(I19)" in out
    assert "1 of" in out


def test_limits_are_judged_when_they_are_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damo_format.save(tmp_path / "r", sample())
    code, out = run(capsys, "judge", tmp_path / "r", "--level", "7.3")
    assert code == 0
    assert "limits of the number of regions are not known" in out
    code, out = run(capsys, "judge", tmp_path / "r", "--level", "7.3", "--nr-regions", 10, 12)
    assert code == 1
    assert "most regions" in out
    assert "(I12)" in out


def test_guessed_intervals_are_neither_judged_nor_imported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damo_format.save(tmp_path / "r", sample(), "perf_script")
    for action in (("judge", tmp_path / "r", "--level", "7.3"), ("import", tmp_path / "r", tmp_path / "o")):
        code, out = run(capsys, *action)
        assert (code, "give --intervals" in out) == (2, True)
    assert not (tmp_path / "o").exists()
    given = ("--intervals", 5000, 100000)
    assert run(capsys, "judge", tmp_path / "r", "--level", "7.3", *given)[0] == 0
    assert run(capsys, "show", tmp_path / "r")[0] == 0


def test_an_empty_recording_is_inconclusive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = replace(sample(), snapshots=(), lost_events=5)
    recording_file.save(tmp_path / "r.npz", report, None, About(level="7.3"))
    code, out = run(capsys, "judge", tmp_path / "r.npz")
    assert (code, "INCONCLUSIVE" in out) == (7, True)


def test_select_chooses_one_of_several_recordings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    snaps = [{"start_time": 0, "end_time": 5, "regions": [{"start": 0, "end": 4096}]}]
    value = [{"context_idx": i, "snapshots": snaps, "intervals": dict[str, int]()} for i in (0, 1)]
    (tmp_path / "r").write_text(json.dumps(value))
    code, out = run(capsys, "show", tmp_path / "r")
    assert (code, "choose with --select: 0 (kdamond 0, context 0), 1 (" in out) == (2, True)
    assert run(capsys, "show", tmp_path / "r", "--select", 1)[0] == 0
    assert run(capsys, "show", tmp_path / "r", "--select", 2)[0] == 2
    recording_file.save(tmp_path / "r.npz", sample(), None, About(level="7.3"))
    code, out = run(capsys, "judge", tmp_path / "r.npz", "--select", 5)
    assert (code, "r.npz holds 1 recording, none with number 5" in out) == (2, True)
    assert run(capsys, "judge", tmp_path / "r.npz", "--select", 0)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("show", "none.npz"), "no such recording"),
        (("show", "FILE", "--target", "3"), "no target 3"),
        (("show", "FILE", "--png", "p.gif"), r".png or .svg"),
        (("export", "FILE", "--to", "damo", "no/where"), "there is no directory no"),
        (("show", str(GOLDEN / "recorded"), "--truth"), "does not know what really happened"),
    ],
)
def test_mistakes_get_a_sentence(
    ours: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out = run(capsys, *(str(ours) if a == "FILE" else a for a in arguments))
    assert code == 2
    assert words in out
    assert "Traceback" not in out


@pytest.mark.parametrize("kept", [2, 200, -1])
def test_damaged_recording_is_a_sentence(
    ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kept: int
) -> None:
    """Cut short, and with bytes that no decompressor takes."""
    whole = ours.read_bytes()
    for data in (whole[:kept], whole[:60] + b"\xff" * 200 + whole[260:]):
        (tmp_path / "damaged.npz").write_bytes(data)
        code, out = run(capsys, "show", tmp_path / "damaged.npz")
        assert (code, "or a damaged one" in out, "pickle" in out) == (2, True, False)


def test_several_targets_are_drawn_one_at_a_time(tmp_path: Path) -> None:
    damo_format.save(tmp_path / "r", sample())
    assert recording.show(tmp_path / "r", width=100, target=1) == 0

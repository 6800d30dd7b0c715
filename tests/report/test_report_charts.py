# SPDX-License-Identifier: GPL-2.0
"""Charts of failures: as SVG with values on hover, as files, on the page; ``report --png`` and ``--svg``."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import pytest
import sample_run

from damon_tests import cli
from damon_tests.judge.chart import Band, Chart, Curve, Mark, Panel, band, curve, to_json
from damon_tests.ports import UsageError
from damon_tests.report import chart_axes, charts, html, model
from damon_tests.report.chart_svg import chart_svg

SVG = "{http://www.w3.org/2000/svg}"
CHART = Chart(
    "bytes <tried>",
    (
        Panel(
            "bytes",
            (
                Curve("tried", (0.0, 1.0, 2.0), (0.0, 4096.0, 8192.0), "dots"),
                Curve("quota", (0.0, 2.0), (4096.0,) * 2, "expected"),
            ),
            (Band("allowed", (0.0, 2.0), (0.0, 0.0), (4096.0, 4096.0)),),
        ),
        Panel("score", (Curve("score", (0.0, 1.0, 2.0), (0.5, 1.0, 0.25), "steps"),)),
    ),
    (Mark("paused", 0.5, 1.5), Mark("phase", 1.0, 1.0)),
)
BARS = Chart(
    "nodes",
    (
        Panel(
            "bytes",
            (Curve("before", (0.0, 1.0), (8192.0, 0.0)), Curve("after", (0.0, 1.0), (0.0, 8192.0))),
            groups=("node 0", "node 1"),
        ),
    ),
    x_label="",
)


def texts(element: ET.Element, kind: str) -> list[str]:
    return [t.text or "" for t in element.iter(f"{SVG}{kind}")]


def test_expected_quota_holds_until_it_changes() -> None:
    """A quota of 8192 then 0 falls at once, not in the time between two passes."""
    quota = Curve("quota", (0.0, 1.0, 2.0), (8192.0, 8192.0, 0.0), "expected steps")
    svg = chart_svg(Chart("bytes", (Panel("bytes", (quota,)),)), standalone=True)
    line = next(e for e in ET.fromstring(svg).iter(f"{SVG}polyline"))
    points = [tuple(map(float, pair.split(","))) for pair in str(line.get("points")).split()]
    assert "expected" in str(line.get("class"))
    assert [a[0] == b[0] for a, b in pairwise(points)] == [False, True, False, True]


def test_samples_say_their_values_on_hover() -> None:
    root = ET.fromstring(chart_svg(CHART, standalone=True))
    titles = texts(root, "title")
    assert "tried: 4 KiB at 1" in titles
    assert "score: 0.25 at 2" in titles
    assert "allowed" in titles
    assert "bytes <tried>" in texts(root, "text")
    assert "4 KiB" in texts(root, "text")
    label = root.get("aria-label") or ""
    assert "quota ends at 4 KiB" in label


def test_pause_is_as_wide_as_it_was_long() -> None:
    root = ET.fromstring(chart_svg(CHART, standalone=True))
    (first, _) = [r for r in root.iter(f"{SVG}rect") if r.get("class") == "span"]
    frame = next(r for r in root.iter(f"{SVG}rect") if r.get("class") == "frame")
    assert float(first.get("width", "0")) == pytest.approx(float(frame.get("width", "0")) / 2, abs=0.2)


def test_chart_of_an_hour_is_small() -> None:
    """36,000 aggregations: a page has room for some hundred of such charts."""
    x = [i / 10 for i in range(36_000)]
    curves = (curve("reported", x, [i % 977 for i in range(36_000)]), curve("true", x, x, "expected"))
    hour = Chart("an hour", (Panel("age", curves, (band("true", x, x, x),)),))
    assert len(chart_svg(hour)) < 200_000
    assert len(json.dumps(to_json(hour))) < 100_000


def test_bars_stand_on_their_axis() -> None:
    root = ET.fromstring(chart_svg(BARS, standalone=True))
    bars = [r for r in root.iter(f"{SVG}rect") if (r.get("class") or "").startswith("bar")]
    assert [float(b.get("height", "0")) > 0 for b in bars] == [True, False, False, True]
    assert "node 1, after: 8 KiB" in texts(root, "title")


def test_empty_chart_is_drawn() -> None:
    ET.fromstring(chart_svg(Chart("nothing", (Panel("p"),)), standalone=True))
    ET.fromstring(chart_svg(Chart("flat", (Panel("p", (Curve("c", (1.0,), (0.0,)),)),)), standalone=True))


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 7), (0, 0.0003), (-3, 12_345), (0, 5e9)])
def test_ticks_are_round_and_few(low: float, high: float) -> None:
    positions = chart_axes.ticks(low, high)
    assert 2 <= len(positions) <= 7
    assert all(low <= p <= high for p in positions)
    assert 2 <= len(chart_axes.byte_ticks(max(high, 1))) <= 6


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """The run with every verdict, whose wrong test has two charts and a file that is none."""
    directory = tmp_path / "run"
    sample_run.write(directory)
    return directory


def test_page_has_the_chart_in_it(run_dir: Path) -> None:
    pytest.importorskip("jinja2")
    page = html.page(model.load(run_dir), run_dir)
    assert page.count('<svg class="chart"') == 2
    assert "tried: " in page
    (run_dir / "tests/accuracy/attempt-1/chart-1.json").write_text("damaged")
    assert html.page(model.load(run_dir), run_dir).count('<svg class="chart"') == 1


@pytest.mark.parametrize("kind", charts.FORMATS)
def test_every_picture_is_written(run_dir: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    into = run_dir.parent / "pictures"
    assert cli.main(["report", str(run_dir), "test_accuracy", f"--{kind}", str(into)]) == 6
    assert f"{kind.upper()}      {into} (3 pictures)" in capsys.readouterr().out
    names = sorted(p.name.rpartition("attempt-1.")[2] for p in into.iterdir())
    assert names == [f"chart-1.{kind}", f"chart-2.{kind}", f"recording.{kind}"]
    head = {"png": b"\x89PNG", "svg": b"<svg"}[kind]
    assert all(head in p.read_bytes()[:400] for p in into.iterdir())


def test_a_run_without_pictures_is_refused(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(run_dir), "test_probes", "--svg", str(run_dir / "p")]) == 2
    assert "no recording and no chart" in capsys.readouterr().err
    assert cli.main(["report", str(run_dir), "--png", str(run_dir / "events.jsonl")]) == 2
    assert "this is a file" in capsys.readouterr().err


def test_views_take_a_test(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``report DIR [--failed|--figures|--matrix] [TEST]``, in either order."""
    for arguments in (["--failed", "test_accuracy"], ["test_accuracy", "--failed"]):
        assert cli.main(["report", str(run_dir), *arguments]) == 6
        out = capsys.readouterr().out
        assert "test_phases.py::test_accuracy" in out
        assert "test_online.py" not in out
    assert cli.main(["report", str(run_dir), "--matrix", "test_phases"]) == 6
    assert "phases" in (out := capsys.readouterr().out)
    assert "online" not in out
    assert cli.main(["report", str(run_dir), "--failed", "test_invariants"]) == 6
    assert "nothing to show of what did not hold in 1 test." in capsys.readouterr().out
    assert cli.main(["report", str(run_dir), "test_phases", "--matrix", "test_phases"]) == 2
    assert "two tests are given" in capsys.readouterr().err
    assert cli.main(["report", str(run_dir), "--failed", "nowhere"]) == 2


def test_file_that_is_no_chart_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chart.json"
    for text in ("{}", "[", json.dumps(to_json(CHART) | {"marks": 5})):
        path.write_text(text)
        with pytest.raises(UsageError, match="not a chart"):
            charts.read(path)
    path.write_text(json.dumps(to_json(CHART)))
    assert charts.read(path) == CHART

# SPDX-License-Identifier: GPL-2.0
"""What a run looks like: terminal, JUnit, HTML, through one made-up run with every verdict."""

from __future__ import annotations

import json
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from urllib.parse import unquote

import pytest
import sample_run

from damon_tests.commands import report
from damon_tests.judge.verdict import Verdict
from damon_tests.ports import NotSupported, UsageError
from damon_tests.report import html, junit, model, picture, terminal, wording
from damon_tests.report.events import RunLog


def show(directory: Path, page: Path | None = None) -> int:
    return report.show_report(report.ReportRequest(directory, html=page))


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run")
    sample_run.write(directory)
    return directory


def test_the_summary_says_what_matters(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show(run_dir) == 6
    out = capsys.readouterr().out
    assert "\x1b" not in out
    first, counts = out.splitlines()[:2]
    assert first.startswith("damon-tests  debian:7.3 (7.3.4-amd64), judged as 7.3  9 tests in ")
    assert counts.split() == [
        "ERROR",
        "1",
        "FAIL",
        "1",
        "XPASS",
        "1",
        "INCONCLUSIVE",
        "1",
        "XFAIL",
        "1",
        "SKIP",
        "3",
        "PASS",
        "1",
    ]
    for expected in [
        "recall of hot bytes = 0.4\n",
        "expected  not below the reference's 0.93 to 0.99",
        "because   rank among 200 replicas",
        "tests/accuracy/attempt-1/recording.npz",
        "overhead = 0.031  undecided",
        f"SKIP 2  {sample_run.PROBES}",
        "test_probes.py::test_hits, test_probes.py::test_weights",
        "monitor 12.1 s",
        "damon-tests run --kernel=debian:7.3 --seed=1 suites/monitoring/test_online.py::test_commit",
    ]:
        assert expected in out
    assert "test_invariants\n" not in out


def test_colour_only_when_asked(run_dir: Path) -> None:
    plain, coloured = report.lines(run_dir), report.lines(run_dir, color=True)
    assert any("\x1b[" in line for line in coloured)
    assert [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in coloured] == plain


def test_an_empty_run_is_not_a_success(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        log.run_started({})
        log.run_finished()
    assert "not a success" in "\n".join(report.lines(tmp_path))
    assert show(tmp_path) == 5


def test_a_killed_run_says_so(tmp_path: Path) -> None:
    sample_run.write(tmp_path, finish=False)
    assert "ended before it was finished" in report.lines(tmp_path)[0]


def test_many_failures_are_cut_short(tmp_path: Path) -> None:
    from damon_tests.judge.verdict import Verdict

    with RunLog(tmp_path) as log:
        log.run_started({})
        for i in range(50):
            log.test_finished(f"a.py::t{i}", "reference", "7.3", Verdict.FAIL, "wrong", 0.1)
    out = report.lines(tmp_path)
    assert "and 30 more with verdict FAIL" in out
    assert len(out) < 100


def test_a_kernel_complaint_is_shown_beside_failing_checks(tmp_path: Path) -> None:
    from damon_tests.judge.verdict import Check, Measurement, Verdict

    with RunLog(tmp_path) as log:
        log.test_started("t", "host", "7.3")
        log.check("t", Check("invariant", Measurement("x", 2, "count"), "== 1", "why", False))
        log.test_finished("t", "host", "7.3", Verdict.FAIL, "the kernel complained: WARNING", 0.1)
    out = "\n".join(report.lines(tmp_path))
    assert "x = 2\n" in out
    assert "the kernel complained: WARNING" in out


def test_directory_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        show(tmp_path)


def test_junit_counts_verdicts_as_run_json_does(run_dir: Path, tmp_path: Path) -> None:
    run = model.load(run_dir)
    report.write_files(tmp_path, run)
    suite = ET.parse(tmp_path / "junit.xml").getroot()[0]
    assert {k: suite.get(k) for k in ("tests", "failures", "errors", "skipped")} == {
        "tests": "9",
        "failures": "3",
        "errors": "1",
        "skipped": "4",
    }
    case = next(c for c in suite.iter("testcase") if c.get("name") == "test_accuracy")
    assert case.get("classname") == "suites.monitoring.test_phases"
    assert "tests/accuracy/attempt-1/recording.npz" in (case.findtext("failure") or "")
    properties = {p.get("name"): p.get("value") for p in case.iter("property")}
    assert (
        properties["rerun"]
        == "damon-tests run --kernel=debian:7.3 --seed=1 suites/monitoring/test_phases.py::test_accuracy"
    )
    assert (properties["seeds"], properties["alpha"], properties["judged_as"]) == ("42", "0.001", "7.3")
    times = [float(str(c.get("time"))) for c in suite.iter("testcase")]
    assert float(str(suite.get("time"))) == pytest.approx(sum(times))
    skipped = {"require": True, **{k: v for k, v in run.items() if k != "require"}}
    assert junit.suites(skipped)[0].get("failures") == "6"


def test_junit_survives_every_character(tmp_path: Path) -> None:
    from damon_tests.judge.verdict import Verdict

    with RunLog(tmp_path) as log:
        log.test_finished("a\x00b", "ref\ud800", "", Verdict.ERROR, "\x1b[31m<&>\x07 \u2028", 0.0)
    junit.save(model.derive(tmp_path), tmp_path / "junit.xml")
    assert ET.parse(tmp_path / "junit.xml").getroot()[0].get("errors") == "1"


def test_html_is_one_escaped_page(run_dir: Path, tmp_path: Path) -> None:
    assert show(run_dir, tmp_path / "page.html") == 6
    page = (tmp_path / "page.html").read_text()
    assert "&lt;oops&gt; &amp; more" in page
    assert "<oops>" not in page
    assert "something &lt;b&gt;odd&lt;/b&gt;" in page
    # Nothing is loaded from elsewhere; links lead into the page, or to files of the run.
    assert not re.search(r'src="(?!data:)', page)
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(re.findall(r' id="([^"]+)"', page))
    files = re.findall(r'href="([^#"][^"]*)"', page)
    assert files
    assert all(not link.startswith(("/", "http")) for link in files)
    assert page.count('<details class="test"') == 9
    assert "recall of hot bytes" in page


def test_html_links_lead_to_the_files_from_where_the_page_is(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    show(run_dir, tmp_path / "pages/page.html")
    links = re.findall(r'href="([^#"][^"]*\.npz)"', (tmp_path / "pages/page.html").read_text())
    assert links
    assert all((tmp_path / "pages" / unquote(link)).is_file() for link in links)


def test_html_folds_what_passed_and_older_pictures(tmp_path: Path) -> None:
    sample_run.write(tmp_path, finish=False)
    test = f"{sample_run.SUITE}/test_phases.py::test_again"
    with RunLog(tmp_path) as log:
        log.test_started(test, *sample_run.BACKEND)
        for attempt in (1, 2, 3):
            (tmp_path / f"{attempt}.png").write_bytes(f"picture {attempt}".encode())
            log.artifact(test, f"{attempt}.png", "picture", attempt=attempt)
        log.test_finished(test, *sample_run.BACKEND, Verdict.FAIL, "wrong", 1.0)
        log.run_finished()
    page = html.page(model.load(tmp_path), tmp_path)
    shown = re.findall(r"<figcaption>(\S+),", page)
    assert shown == ["3.png", "1.png", "2.png"]
    assert page.index("3.png,") < page.index("2 more pictures") < page.index("1.png,")
    verdicts = re.findall(r'<details class="test" .*? data-verdict="(\w+)".*?( open)?>', page)
    order = [wording.VERDICTS.index(verdict) for verdict, _ in verdicts]
    assert order == sorted(order)
    assert {verdict for verdict, is_open in verdicts if is_open} == {"ERROR", "FAIL", "XPASS", "INCONCLUSIVE"}
    assert "7.3.4-amd64" in page[: page.index('id="tests-title"')]


def test_html_shows_pictures_of_failures(tmp_path: Path) -> None:
    from damon_tests.damon import recording_file
    from damon_tests.report.raster import raster

    sample_run.write(tmp_path)
    recording, spans = recording_file.load(tmp_path / "tests/accuracy/attempt-1/recording.npz")
    with RunLog(tmp_path) as log:
        for suffix in (".png", ".svg"):
            path = tmp_path / f"picture{suffix}"
            picture.save(raster(recording, sample_run.LAYOUT, spans=spans), path)
            log.artifact(f"{sample_run.SUITE}/test_phases.py::test_accuracy", path, "picture")
        log.artifact(f"{sample_run.SUITE}/test_phases.py::test_accuracy", tmp_path / "gone.png", "picture")
    page = html.page(model.load(tmp_path), tmp_path)
    assert page.count("data:image/png;base64,") == 1
    assert page.count("data:image/svg+xml;base64,") == 1
    # What is wrong comes first, what holds is folded away.
    assert page.index("recall of hot bytes") < page.index("data:image/png;base64,")
    assert "damon-tests recording show" in page


def test_of_a_text_and_a_picture_the_picture_is_shown(tmp_path: Path) -> None:
    sample_run.write(tmp_path, finish=False)
    test, backend = f"{sample_run.SUITE}/test_phases.py::test_again", sample_run.BACKEND
    with RunLog(tmp_path) as log:
        log.test_started(test, *backend)
        for attempt in (1, 2):
            log.attempt(test, attempt, 1, {})
            for name in ("heatmap.png", "heatmap.txt"):
                path = tmp_path / f"{attempt}-{name}"
                path.write_bytes(b"drawn as text")
                log.artifact(test, path.name, "picture", title="heat map", attempt=attempt)
        log.test_finished(test, *backend, Verdict.FAIL, "wrong", 1.0)
        log.run_finished()
    run = model.load(tmp_path)
    assert "drawn as text" not in html.page(run, tmp_path)
    printed = "\n".join(terminal.lines(run, tmp_path))
    assert str(tmp_path / "2-heatmap.png") in printed
    assert "1-heatmap" not in printed
    assert "heatmap.txt" not in printed


def test_missing_extras_are_a_sentence(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(NotSupported, match=r"needs Jinja2 \(pip install 'damon-tests\[report\]'\)"):
        show(run_dir, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_sizes_are_printed_in_the_largest_whole_unit() -> None:
    assert [wording.size(n) for n in (0, 512, 4096, 1536 << 20, 3 << 40)] == [
        "0 bytes",
        "512 bytes",
        "4 KiB",
        "1.5 GiB",
        "3 TiB",
    ]
    assert [wording.seconds(s) for s in (0.003, 2.44, 200, 7500)] == [
        "3 ms",
        "2.4 s",
        "3 min 20 s",
        "2 h 5 min",
    ]
    exact = (0, 4096, 3 << 19, 4704 << 10, (40 << 30) + (3 << 19), (40 << 30) - (1 << 19), 5 << 50)
    assert [wording.offset(n) for n in exact] == [
        "0 bytes",
        "4 KiB",
        "1.5 MiB",
        "4 MiB 608 KiB",
        "40 GiB 1.5 MiB",
        "39 GiB 1023.5 MiB",
        "5 PiB",
    ]
    assert wording.quantity(1405501440, "bytes") == "1,405,501,440 bytes"
    assert wording.quantity(1234.56, "µs") == "1,234.6 µs"
    assert wording.quantity(0.39995, "fraction") == "0.39995"
    assert wording.quantity("inf", "ms") == "inf ms"
    assert wording.quantity(3.0, "regions") == "3 regions"
    assert set(wording.VERDICTS) == set(wording.MEANING) == set(terminal.STYLES)


def test_views_print_parts_of_the_report(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def printed(**request: str) -> str:
        assert report.show_report(report.ReportRequest(run_dir, **request)) == 6
        return capsys.readouterr().out

    assert "recall of hot bytes" in printed(view="failed")
    assert "test_invariants" not in printed(view="failed")
    assert re.search(r"phases +FAIL 1 of 2, 25.6 s", printed(view="matrix"))
    details = printed(test="test_invariants")
    assert details.count("  holds     ") > 10
    assert "seed 123456789" in details
    with pytest.raises(UsageError, match="no test of this run has 'nothing'"):
        printed(test="nothing")


def test_killed_run_gets_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample_run.write(tmp_path, finish=False)
    report.show_report(report.ReportRequest(tmp_path, junit=Path("-")))
    assert ET.fromstring(capsys.readouterr().out)[0].get("tests") == "9"
    assert ET.parse(tmp_path / "junit.xml").getroot()[0].get("tests") == "9"
    assert model.load(tmp_path) == json.loads((tmp_path / "run.json").read_text())


def test_reason_that_nothing_ran_is_not_cut(tmp_path: Path) -> None:
    reason = (
        "Debian's archive has no cloud-amd64 kernel 99.9 now (it has " + ", ".join(["6.12"] * 15) + ", 7.3)"
    )
    with RunLog(tmp_path) as log:
        log.run_started({"seed": 1})
        log.test_finished("suites/a.py::t", "debian:99.9", "", Verdict.SKIP, reason, 0.1)
        log.run_finished()
    lines = terminal.render(terminal.summary(model.load(tmp_path), Path("runs/1"), 80))
    assert reason in " ".join(line.strip() for line in lines)
    assert max(map(len, lines)) <= 80


def test_summary_fits_a_terminal_whatever_happened(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        log.run_started({"kernel": {"release": "7.3.4+deb13-cloud-amd64"}, "seed": 1})
        for verdict in Verdict:
            for i in range(30):
                reason = f"reason {i} of many words " * 10
                name = f"suites/a/test_b.py::test_{verdict}_{i}"
                log.test_finished(name, "debian:7.3", "7.3", verdict, reason, 0.1)
        log.timing("open kernel", 1)
        log.run_finished()
    lines = terminal.render(terminal.summary(model.load(tmp_path), Path("runs/1"), 80))
    assert len(lines) <= 22
    # Commands are never cut, so that they can be copied.
    assert [line for line in lines[2:] if len(line) > 80 and not line.startswith("Rerun")] == []
    assert "and 116 more: damon-tests report runs/1 --failed" in lines

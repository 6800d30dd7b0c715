# SPDX-License-Identifier: GPL-2.0
"""damo's record files are written, read back, read as damo writes them, and refused with a reason."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from damo_samples import heat, request, sample, working_sets
from synthetic_recordings import MIB, MS, recording, snapshot

from damon_tests.damon import damo_format, damo_import
from damon_tests.damon import damo_values as values
from damon_tests.damon.damo_format import DamoFormat
from damon_tests.damon.records import DamosStats, Recording, SchemeReport, Snapshot, TriedRegions
from damon_tests.ports import UsageError

GOLDEN = Path(__file__).parents[1] / "golden/damo"
DAMO_VERSION = "3.4.3"


def same_snapshots(a: Recording, b: Recording) -> bool:
    return all(
        (x.time_ns, x.target_idx, x.complete) == (y.time_ns, y.target_idx, y.complete)
        and all(np.array_equal(getattr(x, n), getattr(y, n)) for n in ("start", "end", "nr_accesses", "age"))
        for x, y in zip(a.snapshots, b.snapshots, strict=True)
    )


def only_recording(path: Path, intervals: tuple[int, int] | None = None) -> damo_import.Imported:
    (imported,) = damo_import.load(path, intervals)
    return imported


# --- there and back --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["json_compressed", "json"])
def test_json_round_trips_everything(tmp_path: Path, name: DamoFormat) -> None:
    report = sample()
    assert damo_format.save(tmp_path / "r", report, name, ctx=request()) == 0
    imported = only_recording(tmp_path / "r")
    assert imported.recording.snapshots
    assert same_snapshots(report, imported.recording)
    scalars = ("source", "operations", "sample_us", "aggr_us", "started_ns", "stopped_ns", "lost_events")
    assert all(getattr(imported.recording, n) == getattr(report, n) for n in scalars)
    assert imported.ctx == request()
    assert imported.notes == ()


def test_text_round_trips_snapshots(tmp_path: Path) -> None:
    report = sample()
    damo_format.save(tmp_path / "r", report, "perf_script")
    imported = only_recording(tmp_path / "r", (5000, 100_000))
    assert same_snapshots(report, imported.recording)
    assert imported.intervals_known
    assert "began" in imported.notes[0]


def test_intervals_missing_in_text_are_guessed_with_a_note(tmp_path: Path) -> None:
    damo_format.save(tmp_path / "r", sample(), "perf_script")
    imported = only_recording(tmp_path / "r")
    assert (imported.recording.sample_us, imported.recording.aggr_us) == (5000, 100_000)
    assert not imported.intervals_known
    assert any("guessed" in note for note in imported.notes)


def test_address_units_become_bytes(tmp_path: Path) -> None:
    report = replace(recording([snapshot(100 * MS, [(1, 3, 5, 2)])]), addr_unit=4096)
    damo_format.save(tmp_path / "r", report)
    restored = only_recording(tmp_path / "r").recording
    assert (restored.snapshots[0].start[0], restored.snapshots[0].end[0], restored.addr_unit) == (
        4096,
        12288,
        1,
    )


def test_tuned_intervals_round_trip(tmp_path: Path) -> None:
    snaps = [snapshot(t * 100 * MS, [(0, 4096, 1, 0)]) for t in (1, 2, 3, 4)]
    report = replace(recording(snaps), intervals=((200 * MS, 10_000), (350 * MS, 20_000)))
    damo_format.save(tmp_path / "r", report)
    values_ = [s["sample_interval_us"] for s in json.loads(inflate(tmp_path / "r"))[0]["snapshots"]]
    assert values_ == ["5000", "5000", "10000", "20000"]
    restored = only_recording(tmp_path / "r").recording
    assert restored.intervals == ((200 * MS, 10_000), (300 * MS, 20_000))  # known to the snapshot, not nearer
    damo_format.save(tmp_path / "t", report, "perf_script")
    assert only_recording(tmp_path / "t").recording.intervals == report.intervals


def inflate(path: Path) -> str:
    return zlib.decompress(path.read_bytes()).decode()


def test_incomplete_snapshots_are_left_out_and_counted(tmp_path: Path) -> None:
    snaps = [snapshot(t * 100 * MS, [(0, 4096, 1, 0)]) for t in (1, 2, 3)]
    report = replace(recording([snaps[0], replace(snaps[1], complete=False), snaps[2]]), lost_events=4)
    assert damo_format.save(tmp_path / "r", report) == 1
    kept = json.loads(inflate(tmp_path / "r"))[0]["snapshots"]
    # The third snapshot counts since the second, although the second is left out.
    spans = [(s["start_time"], s["end_time"]) for s in kept]
    assert spans == [("0", str(100 * MS)), (str(200 * MS), str(300 * MS))]
    assert only_recording(tmp_path / "r").recording.lost_events == 4


def test_schemes_are_recordings_of_their_own(tmp_path: Path) -> None:
    tried = TriedRegions(1, 8192, snapshot(800 * MS, [(0, 4096, 1, 2), (8192, 12288, 0, 9)]))
    stats = DamosStats(5, 20480, 4, 16384, 0)
    damo_format.save(tmp_path / "r", sample(), schemes=[SchemeReport(stats, tried=(tried,))])
    main, scheme = damo_import.load(tmp_path / "r")
    assert (main.name, scheme.name) == ("kdamond 0, context 0", "kdamond 0, context 0, scheme 1")
    assert scheme.recording.source == "tried_regions"
    assert scheme.recording.snapshots[0].age.tolist() == [2, 9]
    record = json.loads(inflate(tmp_path / "r"))[2]
    assert record["snapshots"][0]["damos_stats"]["sz_tried"] == "20480"
    assert record["snapshots"][0]["start_time"] == str(700 * MS)


def test_single_snapshot_in_text_keeps_its_start_time(tmp_path: Path) -> None:
    report = replace(recording([snapshot(250 * MS, [(0, 4096, 1, 0)])]), started_ns=150 * MS)
    damo_format.save(tmp_path / "r", report, "perf_script")
    restored = only_recording(tmp_path / "r").recording
    assert restored.started_ns == 150 * MS
    assert len(restored.snapshots) == 1


# --- as damo writes --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["json_compressed", "perf_script"])
def test_export_converted_by_damo_is_the_same_recording(name: str) -> None:
    imported = only_recording(GOLDEN / f"converted.{name}")
    assert same_snapshots(sample(), imported.recording)
    assert (imported.recording.sample_us, imported.recording.aggr_us) == (5000, 100_000)
    assert imported.recording.started_ns == 0


def test_recording_made_by_damo_is_read() -> None:
    """The file has snapshots of a scheme, recorded on the reference served as files, and parameters."""
    imported = only_recording(GOLDEN / "recorded")
    assert imported.name == "kdamond 0, context 0, scheme 0"
    assert imported.ctx is not None
    assert (imported.ctx.operations, imported.ctx.attrs.max_nr_regions) == ("vaddr", 1000)
    assert imported.ctx.attrs.update_us == 1_000_000
    report = imported.recording
    assert (report.source, report.operations, report.aggr_us) == ("tried_regions", "vaddr", 100_000)
    assert len(report.snapshots) == 6
    assert report.snapshots[0].time_ns - report.started_ns == 100 * MS


@pytest.mark.parametrize("target_idx", [0, 1])
def test_heat_map_of_damo_has_the_same_figures(target_idx: int) -> None:
    assert_heat(sample(), target_idx, (GOLDEN / f"heatmap.{target_idx}").read_text())


def assert_heat(report: Recording, target_idx: int, printed: str, unit: float = 1) -> None:
    rows = [tuple(float(x) for x in line.split()) for line in printed.splitlines()]
    expected = heat(report, target_idx, 4, 4)
    assert len(rows) == len(expected) == 16
    # Both truncate times and addresses to whole numbers.
    for got, wanted in zip(rows, expected, strict=True):
        assert got[:2] == pytest.approx(wanted[:2], abs=1.0)
        assert got[2] == pytest.approx(wanted[2] * unit, rel=1e-9, abs=1e-9)


def test_working_sets_of_damo_have_the_same_figures() -> None:
    assert_working_sets(sample(), (GOLDEN / "wss").read_text())


def assert_working_sets(report: Recording, printed: str) -> None:
    """Compare minimum, mean and maximum over time; damo sums over targets."""
    both = [a + b for a, b in zip(working_sets(report, 0), working_sets(report, 1), strict=True)]
    mean = next(line for line in printed.splitlines() if line.startswith("# avr:"))
    rows = [line.split()[:2] for line in printed.splitlines() if not line.startswith("#")]
    assert int(mean.split()[2]) == sum(both) // len(both)
    assert rows == [["0", str(min(both))], ["100", str(max(both))]]


# --- leniently -------------------------------------------------------------------------------


def write(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value))
    return path


def test_regions_with_bounds_only_are_read(tmp_path: Path) -> None:
    regions = [
        {"start": 0, "end": "4,096", "nr_accesses": {"percent": "50 %"}, "age": {"usec": "1 s 500 ms"}},
        {"start": "1 MiB", "end": "2.5 MiB"},
    ]
    value = [{"snapshots": [{"end_time": "2 s", "regions": regions}], "intervals": {"aggr_us": "200 ms"}}]
    report = only_recording(write(tmp_path / "r", value)).recording
    snap = report.snapshots[0]
    assert (report.sample_us, report.aggr_us, report.operations) == (5000, 200_000, "unknown")
    assert snap.end.tolist() == [4096, 5 * MIB // 2]
    assert snap.nr_accesses.tolist() == [20, 0]
    assert snap.age.tolist() == [7, 0]
    assert report.started_ns == 1800 * MS


def test_kernel_pointers_as_target_ids_become_positions(tmp_path: Path) -> None:
    snaps = [{"start_time": 0, "end_time": 100 * MS, "regions": [{"start": 0, "end": 4096}]}]
    ids = (18446623435582458880, 18446623435582450000)
    report = only_recording(
        write(tmp_path / "r", [{"target_id": i, "snapshots": snaps} for i in ids])
    ).recording
    assert [s.target_idx for s in report.snapshots] == [0, 1]


def test_floating_point_errors_of_times_are_corrected(tmp_path: Path) -> None:
    snaps = [{"start_time": 82877215632999, "end_time": 82877315632999, "regions": []}]
    report = only_recording(write(tmp_path / "r", [{"target_id": 0, "snapshots": snaps}])).recording
    assert report.snapshots[0].time_ns == 82877315633000
    assert report.started_ns == 82877215633000


def test_text_of_old_kernels_and_other_tracers(tmp_path: Path) -> None:
    lines = [
        "cpus=2",
        "kdamond.0-4452 [000] ..... 10.100000: damon_aggregated:     target_id=0 nr_regions=1 4096-8192: 3",
        "kdamond.0-4452 [000] ..... 10.150000: damos_esz: ctx_idx=0 scheme_idx=0 esz=0",
        "kdamond.0-4452 [000] ..... 10.200000: damon_aggregated:     target_id=0 nr_regions=1 4096-8192: 4 7",
    ]
    (tmp_path / "r").write_text("\n".join(lines) + "\n")
    report = only_recording(tmp_path / "r").recording
    assert [(s.nr_accesses.tolist(), s.age.tolist()) for s in report.snapshots] == [([3], [0]), ([4], [7])]
    assert report.missing == ("age",)


def test_lost_events_of_a_trace_are_kept(tmp_path: Path) -> None:
    text = "k-1 [0] 1.{}: damon_aggregated: target_id=0 nr_regions=2 {}: 0 0"
    first = [text.format("100000", "0-4096"), text.format("100000", "4096-8192")]
    lines = [*first, "CPU:0 [LOST 7 EVENTS]", text.format("300000", "4096-8192")]
    (tmp_path / "r").write_text("\n".join(lines) + "\n")
    report = only_recording(tmp_path / "r").recording
    assert report.lost_events == 7
    assert [s.complete for s in report.snapshots] == [True, False]


# --- not a recording -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "neither"),
        (b"hello\n", "neither a damon-tests recording nor one of damo's"),
        (b"\x00\xff\x00", "neither"),
        (b"PERFILE2abc", "perf script -i"),
        (b'{"a": 1}', "no list of damo's records"),
        (b"[1, 2]", "no list of damo's records"),
        (b'[{"snapshots": []}]', "no snapshot"),
        (b'[{"snapshots": [{"end_time": 5}]}]', "snapshot 0: 'regions' is missing"),
        (b'[{"snapshots": [{"end_time": 5, "regions": [{"start": 1}]}]}]', "snapshot 0: 'end' is missing"),
        (b'[{"snapshots": [{"end_time": 5, "regions": [{"start": -1, "end": 2}]}]}]', "snapshot 0"),
        (b'[{"snapshots": [{"end_time": "soon", "regions": []}]}]', "snapshot 0"),
        (b'[{"snapshots": [7]}]', "snapshot 0"),
        (b'[{"snapshots": [{"regions": [', "damaged or cut off"),
        (b"x 1 [0] 1.5: damon_aggregated: target_id=0 nr_regions=z\n", "trace: malformed"),
    ],
)
def test_anything_else_is_refused_in_a_sentence(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "r").write_bytes(content)
    with pytest.raises(UsageError, match=words):
        damo_import.load(tmp_path / "r")


def test_no_prefix_of_a_file_breaks_the_reader(tmp_path: Path) -> None:
    """A file truncated anywhere raises a UsageError, or, if it is text, gives its complete lines."""
    for name in ("json_compressed", "perf_script"):
        whole = (GOLDEN / f"converted.{name}").read_bytes()
        for length in range(0, len(whole), len(whole) // 40):
            (tmp_path / "r").write_bytes(whole[:length])
            try:
                imported = damo_import.load(tmp_path / "r")
            except UsageError as error:
                assert str(tmp_path) in str(error)  # noqa: PT017
            else:
                assert name == "perf_script"
                assert imported


def test_missing_files_and_directories_are_usage_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such recording"):
        damo_import.load(tmp_path / "none")
    with pytest.raises(UsageError, match="Is a directory"):
        damo_import.load(tmp_path)
    shutil.copy(GOLDEN / "recorded", tmp_path / "r")
    (tmp_path / "r.kdamonds").write_text('[{"pid": 1}]')
    imported, *_ = damo_import.load(tmp_path / "r")
    assert imported.ctx is None
    assert "r.kdamonds: not damo's parameters, so they are not used: kdamond 0" in imported.notes[0]


# --- numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("read", "text", "number"),
    [
        (values.count, "4,294,967,296", 1 << 32),
        (values.count, "max", (1 << 64) - 1),
        (values.count, 3.0, 3),
        (values.size, "18446744073709551615", (1 << 64) - 1),
        (values.size, "1.500 GiB", 3 << 29),
        (values.size, "4K", 4096),
        (values.size, "512 B", 512),
        (values.time_ns, "82877315632999", 82877315632999),
        (values.time_ns, "5 ms", 5 * MS),
        (values.time_ns, "1 m 3.250 s", 63_250 * MS),
        (values.time_ns, "-2 s", -2000 * MS),
        (values.time_ns, 1.5e9, 1500 * MS),
        (values.time_us, "5000", 5000),
        (values.time_us, "100 ms", 100_000),
        (values.time_us, "0 ns", 0),
    ],
)
def test_numbers_with_units_are_read(read: object, text: object, number: int) -> None:
    assert read(text) == number  # type: ignore[operator]


@pytest.mark.parametrize("text", ["", "x", "5 parsecs", "5 ms x", None, True, [], "1.2.3"])
def test_malformed_numbers_are_refused(text: object) -> None:
    for read in (values.count, values.size, values.time_ns):
        with pytest.raises((ValueError, TypeError)):
            read(text)


# --- with damo itself ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def damo(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return damo's program: DAMON_TESTS_DAMO, or installed from PyPI into a separate environment."""
    given = os.environ.get("DAMON_TESTS_DAMO")
    if given:
        return given
    if shutil.which("file") is None:
        pytest.skip("damo needs file(1)")
    home = tmp_path_factory.mktemp("damo")
    venv.create(home, with_pip=True)
    install = [str(home / "bin/pip"), "install", "--quiet", f"damo=={DAMO_VERSION}"]
    done = subprocess.run(install, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        pytest.skip(f"damo cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
    return str(home / "bin/damo")


def bounds(snap: Snapshot) -> list[tuple[int, int]]:
    return list(zip(snap.start.tolist(), snap.end.tolist(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["json_compressed", "perf_script"])
def test_damo_reads_our_export_and_prints_our_figures(tmp_path: Path, damo: str, name: DamoFormat) -> None:
    sys.path.insert(0, str(GOLDEN.parent))
    import make_damo

    report, path = sample(), tmp_path / "ours"
    damo_format.save(path, report, name)
    # Text has no intervals: damo then counts samples an aggregation, not a second. Nor has it the beginning,
    # and damo's guess is 0.1 ms off for the second target.
    unit = 1 if name == "json_compressed" else report.aggr_us / 1e6
    for target_idx in (0, 1) if name == "json_compressed" else (0,):
        assert_heat(report, target_idx, make_damo.heatmap(damo, path, report, target_idx).strip(), unit)
    assert_working_sets(report, make_damo.working_sets(damo, path))
    if name == "json_compressed":
        printed = make_damo.run(damo, "report", "access", "--input", path, "--raw_number", "--json")
        (tmp_path / "access").write_text(printed)
        assert same_snapshots(report, only_recording(tmp_path / "access").recording)
        shown = make_damo.run(damo, "report", "access", "--input", path, "--raw_number")
        assert all(f"addr {a} size {b - a}" in shown for s in report.snapshots for a, b in bounds(s))


@pytest.mark.slow
def test_golden_data_is_what_damo_writes(tmp_path: Path, damo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sys.path.insert(0, str(GOLDEN.parent))
    import make_damo

    monkeypatch.setattr(make_damo, "HERE", tmp_path)
    make_damo.make(damo)
    for path in tmp_path.iterdir():
        same = path.read_bytes() == (GOLDEN / path.name).read_bytes()
        # Another zlib may compress otherwise.
        assert same or inflate(path) == inflate(GOLDEN / path.name), path.name

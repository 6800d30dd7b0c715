# SPDX-License-Identifier: GPL-2.0
"""Make tests/golden/damo anew: what damo makes of our export, and what it prints about it.

    PYTHONPATH=tests python tests/golden/make_damo.py DAMO

DAMO is the damo program (``pip install damo`` in an environment of its own; golden data is of version 3.4.3).
``recorded`` is not made here: damo recorded it itself, on the reference served as files::

    damon-tests serve --exec sh -c 'damo start --target_pid PID --ops vaddr;
        damo record --snapshot 500ms 8 --do_record access -o recorded'
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from damo_samples import STEPS, request, sample

from damon_tests.damon import damo_format
from damon_tests.damon.records import Recording

HERE = Path(__file__).parent / "damo"
RESOLUTION = 4
FORMATS = ("json_compressed", "perf_script")


def run(damo: str, *arguments: str | int | Path) -> str:
    done = subprocess.run(
        [damo, *map(str, arguments)], check=True, capture_output=True, text=True, timeout=120
    )
    # damo says what it cannot read on its standard output, and ends with 0 or 1.
    assert "failed" not in done.stdout, done.stdout
    return done.stdout


def heatmap(damo: str, path: Path, recording: Recording, target_idx: int) -> str:
    """damo's pixels over the whole target: lines of time, address, accesses a second."""
    snaps = recording.of_target(target_idx)
    time = ("--time_range", recording.started_ns, snaps[-1].time_ns)
    address = ("--address_range", int(snaps[0].start[0]), int(snaps[0].end[-1]))
    where = ("--input", path, "--tid", target_idx, "--output", "raw", "--abs_time", "--abs_addr")
    return run(damo, "report", "heatmap", *where, "--resol", RESOLUTION, RESOLUTION, *time, *address)


def working_sets(damo: str, path: Path) -> str:
    """Working set of each snapshot, ascending, under each target."""
    options = ("--exclude_samples", 0, "--raw_number", "--range", 0, 101, 100)
    return run(damo, "report", "wss", "--input", path, *options)


def make(damo: str) -> None:
    HERE.mkdir(exist_ok=True)
    recording = sample()
    assert len(recording.snapshots) == 2 * STEPS
    with tempfile.TemporaryDirectory() as work:
        ours = Path(work) / "sample"
        damo_format.save(ours, recording, ctx=request())
        for name in FORMATS:
            out = HERE / f"converted.{name}"
            run(damo, "convert_record_format", "--record_file", ours, "--format", name, "--output_file", out)
            out.chmod(0o644)
        for target_idx in (0, 1):
            text = heatmap(damo, ours, recording, target_idx)
            (HERE / f"heatmap.{target_idx}").write_text(text.strip() + "\n")
        (HERE / "wss").write_text(working_sets(damo, ours))


if __name__ == "__main__":
    make(sys.argv[1])

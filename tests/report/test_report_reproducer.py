# SPDX-License-Identifier: GPL-2.0
"""A request as a shell script: valid, safe, and with the very writes that the client stages."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "damon"))
from request_strategies import kdamonds

from damon_tests.damon.client import DamonClient
from damon_tests.damon.params import (
    ANY,
    DamonAttrs,
    DamonCtx,
    DamonIntervalsGoal,
    DamonTarget,
    Damos,
    DamosFilter,
    DamosQuota,
    DamosQuotaGoal,
    DamosWatermarks,
    Kdamond,
)
from damon_tests.damon.users import ADMIN
from damon_tests.ports import Tree
from damon_tests.reference.sysfs.system import ReferenceSystem
from damon_tests.report import reproducer
from damon_tests.report.reproducer import Reproducer

HEAP = 0x7F00_0000_0000
MIB = 1 << 20
LAYOUT = {"heap": (HEAP, HEAP + 64 * MIB)}
FULL = DamonCtx(
    "fvaddr",
    attrs=DamonAttrs(
        1000, 20_000, intervals_goal=DamonIntervalsGoal(400, 3, 5000, 10_000_000), max_nr_regions=60
    ),
    targets=(
        DamonTarget(124, ((HEAP, HEAP + 32 * MIB), (HEAP + 48 * MIB, HEAP + 64 * MIB))),
        DamonTarget(90, ((HEAP, HEAP + MIB),)),
        DamonTarget(124, ((HEAP, HEAP + MIB),)),
    ),
    schemes=(
        Damos(
            "pageout",
            ANY,
            quota=DamosQuota(bytes=8 * MIB, goals=(DamosQuotaGoal("user_input", 100, 50),)),
            watermarks=DamosWatermarks("free_mem_rate", 50_000, 900, 800, 100),
            core_filters=(DamosFilter("addr", True, True, addr_start=HEAP + 4096, addr_end=HEAP + MIB),),
            ops_filters=(DamosFilter("memcg", True, False, memcg_path="/it's a group"),),
        ),
    ),
)
PHYSICAL = DamonCtx("paddr", targets=(DamonTarget(regions=((MIB, 512 * MIB),)),))
IDLE = replace(FULL, schemes=())


class Recorder:
    """A tree that keeps what is written to it, in order."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self.writes: list[tuple[str, str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tree, name)

    def write_batch(self, writes: Sequence[tuple[str, str]]) -> None:
        self.writes += writes
        self._tree.write_batch(writes)


def staged_by_client(ctx: DamonCtx) -> list[tuple[str, str]]:
    system = ReferenceSystem("7.3")
    tree = Recorder(system.tree)
    DamonClient(tree, system.clock).stage([Kdamond(ctx)])
    return tree.writes


def staged_by_script(ctx: DamonCtx, layout: dict[str, tuple[int, int]]) -> list[tuple[str, str]]:
    """The arguments of ``put`` as a shell expands them, where dd has the pid and memory of the recording."""
    text = reproducer.script(Reproducer(ctx, "A title", layout=layout))
    staging = text[text.index("\nc=0/contexts/0\n") : text.index("\nput 0/state on\n")]
    names = [
        f"pid{buffer.number}={ctx.targets[index].pid_target} buffer{buffer.number}={buffer.start}"
        for index, buffer in reversed(reproducer.buffers_of(ctx, layout).items())
    ]
    prelude = 'put() { printf \'%s\\0%s\\0\' "$1" "$2"; }'
    done = subprocess.run(
        ["sh", "-eu"], input="\n".join([prelude, *names, staging]), capture_output=True, text=True, check=True
    )
    words = done.stdout.split("\0")[:-1]
    return [(f"{ADMIN}/kdamonds/{path}", value) for path, value in zip(words[::2], words[1::2], strict=True)]


@pytest.mark.parametrize("ctx", [FULL, IDLE, PHYSICAL], ids=["full", "monitoring only", "physical"])
def test_script_writes_what_the_client_stages(ctx: DamonCtx) -> None:
    expected = staged_by_client(reproducer.staged(ctx))
    assert len(expected) > 8
    assert staged_by_script(ctx, LAYOUT) == expected


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_request_is_written_as_the_client_stages_it(data: st.DataObject) -> None:
    ctx = data.draw(kdamonds("7.3"))[0].ctx
    assert staged_by_script(ctx, {}) == staged_by_client(reproducer.staged(ctx))


@pytest.mark.parametrize("idle", [False, True])
@pytest.mark.parametrize("ctx", [FULL, IDLE, PHYSICAL], ids=["full", "monitoring only", "physical"])
def test_script_is_valid_shell(ctx: DamonCtx, idle: bool, tmp_path: Path) -> None:
    text = reproducer.script(Reproducer(ctx, "Title `id` $(id)\nrm -rf /", ["more"], LAYOUT, 2.5, idle))
    assert max(map(len, text.splitlines())) <= 75
    (tmp_path / "script.sh").write_text(text)
    subprocess.run(["sh", "-n", "script.sh"], cwd=tmp_path, check=True)
    shellcheck = shutil.which("shellcheck", path=str(Path(sys.executable).parent)) or shutil.which(
        "shellcheck"
    )
    assert shellcheck, "shellcheck is in the dev extra"
    done = subprocess.run(
        [shellcheck, "script.sh"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_addresses_and_processes_are_those_of_dd() -> None:
    text = reproducer.script(Reproducer(FULL, "A title", layout=LAYOUT))
    assert 'put $c/targets/0/pid_target "$pid0"' in text
    assert 'put $c/targets/1/pid_target "$pid1"' in text
    assert 'put $c/targets/2/pid_target "$pid0"' in text
    assert f"put $c/targets/0/regions/1/end $((buffer0 + {64 * MIB}))" in text
    assert "put $c/schemes/0/core_filters/0/addr_start $((buffer0 + 4096))" in text
    assert text.count("\ndd if=") == 2
    assert f"bs={64 * MIB} " in text, "the buffer is as large as the workload's memory"
    assert str(HEAP) not in text


def test_what_shows_the_outcome_depends_on_the_request() -> None:
    full, plain = (reproducer.script(Reproducer(ctx, "A title")) for ctx in (FULL, PHYSICAL))
    for command in ("update_schemes_effective_quotas", "update_tuned_intervals"):
        assert command in full
        assert command not in plain
    for text in (full, plain):
        assert "put 0/state update_schemes_tried_regions" in text
    assert "kill -STOP" not in full
    assert "kill -STOP" in reproducer.script(Reproducer(FULL, "A title", idle=True))


@pytest.mark.parametrize(("seconds", "slept"), [(0.1, 1), (2.2, 3), (1e6, 60)])
def test_script_waits_as_long_as_the_test(seconds: float, slept: int) -> None:
    assert f"\nsleep {slept}\n" in reproducer.script(Reproducer(FULL, "A title", seconds=seconds))


@pytest.mark.parametrize(
    ("nr_kdamonds", "enabled", "complaint"),
    [("1", "N", "nr_kdamonds is 1"), ("0", "Y", "damon_reclaim is enabled")],
)
def test_script_changes_nothing_while_damon_is_in_use(
    nr_kdamonds: str, enabled: str, complaint: str, tmp_path: Path
) -> None:
    """On files that look like the kernel's."""
    kdamonds_dir, module = (
        tmp_path / "admin" / "kdamonds",
        tmp_path / "module" / "damon_reclaim" / "parameters",
    )
    kdamonds_dir.mkdir(parents=True)
    module.mkdir(parents=True)
    (kdamonds_dir / "nr_kdamonds").write_text(f"{nr_kdamonds}\n")
    (module / "enabled").write_text(f"{enabled}\n")
    text = reproducer.script(Reproducer(FULL, "A title", layout=LAYOUT))
    text = text.replace(ADMIN, str(tmp_path / "admin")).replace("/sys/module", str(tmp_path / "module"))
    done = subprocess.run(["sh"], input=text, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert (kdamonds_dir / "nr_kdamonds").read_text() == f"{nr_kdamonds}\n"
